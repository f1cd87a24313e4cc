"""The runs of an example: the facts of each, from the example file and the run before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.tables import Account, AccountRegion, TrailScan
from reports.rules.loader import RuleError, check_keys
from reports.rules.testing.builders import add_items, arns
from reports.rules.testing.fixture import (
    GLOBAL,
    HOME,
    MANAGEMENT,
    ORGANIZATION,
    OUTSIDE,
    READ,
    VENDOR,
    Facts,
    account_of,
    account_values,
    region_of,
)
from reports.rules.testing.gap_mutations import remove
from reports.rules.testing.loader import Example
from reports.rules.yaml_files import Lined

_GAP_KEYS = ("action", "subject", "cause", "account", "region", "code", "message")


def facts_of(example: Example, number: int) -> list[Facts]:
    """The facts of each run of an example, in accounts of its own. Raises RuleError with file and line."""
    own, other = str(100000000000 + 2 * number), str(100000000001 + 2 * number)
    runs: list[Facts] = []
    spec: dict[str, Any] = {}
    for stated in example.runs:
        spec = _apply_changes(spec, stated)
        names = {
            "account": own,
            "other": other,
            "region": HOME,
            "organization": ORGANIZATION,
            "management": MANAGEMENT,
            "outside": OUTSIDE,
            "vendor": VENDOR,
        }
        facts = Facts(own, other, names, source=example.source)
        names |= {name: arn for name, arn in arns(facts, spec) if name not in names}
        _add_scopes(facts, spec)
        add_items(facts, spec)
        for gap in spec.get("gaps") or ():
            _add_gap(facts, gap)
        runs.append(facts)
    return runs


def _apply_changes(spec: Mapping[str, Any], stated: Lined) -> dict[str, Any]:
    """The items of a run: those of the run before, changed and removed as stated; gaps and outcomes are not inherited."""
    removed = set(stated.get("remove") or ())
    result: dict[str, Any] = {name: value for name, value in spec.items() if isinstance(value, list) and name != "gaps"}
    for section, value in stated.items():
        if section == "remove":
            continue
        if not isinstance(value, list) or section == "gaps":
            result[section] = value
            continue
        kept = {_identity(row): row for row in result.get(section, ())}
        for row in value:
            previous = kept.get(_identity(row))
            kept[_identity(row)] = _merged(previous, row) if previous is not None else row
        result[section] = list(kept.values())
    return {
        name: [row for row in value if not isinstance(row, dict) or _identity(row) not in removed]
        if isinstance(value, list) and name != "gaps"
        else value
        for name, value in result.items()
    }


def _identity(row: Mapping[str, Any]) -> Any:
    return row.get("id") or row.get("name") or id(row)


def _merged(previous: Lined, row: Lined) -> Lined:
    merged = Lined(row.line)
    for mapping in (previous, row):
        merged.update(mapping)
        merged.lines.update(mapping.lines)
    return merged


def _add_scopes(facts: Facts, spec: Mapping[str, Any]) -> None:
    items: Iterable[Any] = (
        row
        for section in ("keys", "aliases", "stores", "resources", "trails")
        for row in spec.get(section) or ()
        if isinstance(row, dict)
    )
    scopes = {(facts.own, HOME), (facts.other, HOME), (facts.own, GLOBAL), (facts.other, GLOBAL)}
    scopes |= {(account_of(facts, row), region_of(row)) for row in items}
    outcomes = {(facts.own, HOME): str(spec["outcome"])} if spec.get("outcome") else {}
    outcomes |= {(facts.own, str(region)): str(outcome) for region, outcome in (spec.get("regions") or {}).items()}
    for account, name in ((facts.own, "Example"), (facts.other, "Other")):
        stated = spec.get("organization") if account == facts.own else None
        facts.add(Account, stated or {}, **account_values(account, name))
    for account, region in sorted(scopes | set(outcomes)):
        if account not in {facts.own, facts.other}:
            continue
        outcome = outcomes.get((account, region), "complete")
        facts.outcomes[account, region] = outcome
        if region not in {GLOBAL, "*"}:
            selection = outcome if outcome in {"excluded", "disabled"} else "crawled"
            status = "DISABLED" if outcome == "disabled" else "ENABLED"
            facts.add(AccountRegion, {}, account_id=account, region=region, status=status, selection=selection)
            if outcome in READ:
                facts.add(TrailScan, {}, account_id=account, region=region)


def _add_gap(facts: Facts, stated: Lined) -> None:
    """Remove the response of an operation and add a gap, as stated. Raises RuleError with file and line."""
    action = str(stated.get("action", ""))
    if ":" not in action:
        raise RuleError(f"{facts.source}:{stated.line}: a gap needs an action such as kms:GetKeyPolicy")
    check_keys(facts.source, stated, _GAP_KEYS, "a gap")
    subject = str(stated.get("subject") or "")
    region = stated.get("region")
    remove(
        facts,
        action,
        subject=facts.arn(subject),
        account=account_of(facts, stated),
        region=str(region) if region else None,
        cause=str(stated.get("cause") or "denied"),
    )
