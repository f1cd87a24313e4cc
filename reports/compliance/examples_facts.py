"""From an example to facts: the rows of the ledger that a crawl of the example's accounts would write, night by night."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, Integer, LargeBinary

from models.base import Facet, UtcDateTime, canonical_json
from models.tables import Account, AccountRegion, Gap, KeyLastUseGap, TrailListing
from reports.compliance.examples_kinds import OPERATIONS
from reports.compliance.examples_read import Example, Lined
from reports.compliance.rules import RuleError

LAST_NIGHT = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)
HOME = "eu-west-1"
GLOBAL = "global"
ORGANIZATION, MANAGEMENT = "o-exampleorg1", "123456789012"
OUTSIDE, VENDOR = "999900001111", "222200001111"
_NAME = re.compile(r"\{([a-z][a-z0-9_-]*)\}")
POLICY = "policy"
"""In rows, the text of the policy in place of its hash."""
Row = dict[str, Any]


@dataclass(slots=True)
class Facts:
    """What a night shows of an example's accounts."""

    own: str
    other: str
    names: dict[str, str]
    """What names in texts stand for: ARNs of the example's things, and its accounts."""
    rows: dict[type[Facet], list[Row]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], str] = field(default_factory=dict)
    """By account and region."""
    source: str = ""

    def add(self, facet: type[Facet], stated: Mapping[str, Any], **defaults: Any) -> Row:
        """Add a row: defaults, replaced by what is stated; in columns that are texts, mappings become JSON."""
        row: Row = {name: None for name in facet.value_columns() if name != "policy_hash"}
        if "policy_hash" in facet.value_columns():
            row[POLICY] = None
        for name, value in {**defaults, **stated}.items():
            if name not in row:
                line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
                raise RuleError(f"{self.source}:{line}: {facet.__tablename__} has no {name!r}; it has {', '.join(row)}")
            row[name] = self._typed(facet, name, value, stated)
        self.rows.setdefault(facet, []).append(row)
        return row

    def text(self, value: Any) -> Any:
        """The value with names replaced in every text of it."""
        if isinstance(value, str):
            return _NAME.sub(lambda found: self.names.get(found[1], found[0]), value)
        if isinstance(value, dict):
            return {self.text(name): self.text(one) for name, one in value.items()}
        return [self.text(one) for one in value] if isinstance(value, list) else value

    def _typed(self, facet: type[Facet], name: str, value: Any, stated: Mapping[str, Any]) -> Any:
        if value is None or name == POLICY:
            return value
        kind = facet.table().columns[name].type
        try:
            if isinstance(kind, UtcDateTime):
                return moment(value)
            if isinstance(kind, Boolean):
                return {True: True, False: False}[value]
            if isinstance(kind, Integer):
                return int(value)
        except (ValueError, KeyError, TypeError) as error:
            line = stated.lines.get(name, stated.line) if isinstance(stated, Lined) else 0
            raise RuleError(f"{self.source}:{line}: {value!r} does not fit {name!r}, which is {kind!r}") from error
        if isinstance(kind, LargeBinary):
            return value
        value = self.text(value)
        return canonical_json(value) if isinstance(value, dict | list) else str(value)

    def cross(self, account: str) -> Callable[[Any], Any]:
        """A function that moves the values of another example's rows here."""
        other = str(int(account) + 1)

        def moved(value: Any) -> Any:
            return value.replace(account, self.own).replace(other, self.other) if isinstance(value, str) else value

        return moved


def moment(value: Any) -> dt.datetime:
    """A day (its midnight) or a time, in UTC."""
    if isinstance(value, dt.datetime):
        return value
    found = dt.datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def facts_of(example: Example, number: int) -> list[Facts]:
    """The nights of an example, in accounts of its own. Raises RuleError with file and line."""
    from reports.compliance.examples_things import add_things, arns

    own, other = str(100000000000 + 2 * number), str(100000000001 + 2 * number)
    nights: list[Facts] = []
    spec: dict[str, Any] = {}
    for stated in example.nights:
        spec = _overlaid(spec, stated)
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
        _places(facts, spec)
        add_things(facts, spec)
        for gap in spec.get("gaps") or ():
            _state_gap(facts, gap)
        nights.append(facts)
    return nights


def account_of(facts: Facts, stated: Mapping[str, Any]) -> str:
    """``account`` of a thing: own (the default), other, or an id."""
    named = str(stated.get("account", "own"))
    return str(facts.text({"own": "{account}", "other": "{other}"}.get(named, named)))


def _overlaid(spec: Mapping[str, Any], stated: Lined) -> dict[str, Any]:
    """Things stay from night to night, as far as they are not changed or removed; gaps and outcomes are each night's own."""
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
            known = kept.get(_identity(row))
            kept[_identity(row)] = _merged(known, row) if known is not None else row
        result[section] = list(kept.values())
    return {
        name: [row for row in value if not isinstance(row, dict) or _identity(row) not in removed]
        if isinstance(value, list) and name != "gaps"
        else value
        for name, value in result.items()
    }


def _identity(row: Mapping[str, Any]) -> Any:
    return row.get("id") or row.get("name") or id(row)


def _merged(known: Lined, row: Lined) -> Lined:
    merged = Lined(row.line)
    for one in (known, row):
        merged.update(one)
        merged.lines.update(one.lines)
    return merged


def _places(facts: Facts, spec: Mapping[str, Any]) -> None:
    listed: Iterable[Any] = (
        row
        for section in ("keys", "aliases", "stores", "resources", "trails")
        for row in spec.get(section) or ()
        if isinstance(row, dict)
    )
    wanted = {(facts.own, HOME), (facts.other, HOME), (facts.own, GLOBAL), (facts.other, GLOBAL)}
    wanted |= {(account_of(facts, row), str(row.get("region", HOME))) for row in listed}
    outcomes = {(facts.own, HOME): str(spec["outcome"])} if spec.get("outcome") else {}
    outcomes |= {(facts.own, str(region)): str(one) for region, one in (spec.get("regions") or {}).items()}
    for account in (facts.own, facts.other):
        stated = spec.get("organization") if account == facts.own else None
        whole = stated or {}
        facts.add(
            Account,
            whole,
            account_id=account,
            name="Example" if account == facts.own else "Other",
            email=f"aws+{account}@example.org",
            arn=f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{account}",
            state="ACTIVE",
            ou_path="/Production",
            ou_ids="r-abcd/ou-abcd-11111111",
            joined_at="2020-05-01",
            is_management=False,
            selection="crawled",
        )
    for account, region in sorted(wanted | set(outcomes)):
        if account not in {facts.own, facts.other}:
            continue
        outcome = outcomes.get((account, region), "complete")
        facts.outcomes[account, region] = outcome
        if region not in {GLOBAL, "*"}:
            selection = outcome if outcome in {"excluded", "disabled"} else "crawled"
            status = "DISABLED" if outcome == "disabled" else "ENABLED"
            facts.add(AccountRegion, {}, account_id=account, region=region, status=status, selection=selection)
            if outcome in {"complete", "partial"}:
                facts.add(TrailListing, {}, account_id=account, region=region)


def _state_gap(facts: Facts, stated: Lined) -> None:
    """A gap that an example states takes away what the operation would have told."""
    from reports.compliance.examples_gaps import take_away

    action = str(stated.get("action", ""))
    if ":" not in action:
        raise RuleError(f"{facts.source}:{stated.line}: a gap needs an action, as kms:GetKeyPolicy")
    for key, line in stated.lines.items():
        if key not in {"action", "subject", "cause", "account", "region", "code", "message"}:
            raise RuleError(f"{facts.source}:{line}: {key!r} is no part of a gap")
    subject = str(stated.get("subject") or "")
    region = stated.get("region")
    take_away(
        facts,
        action,
        subject=facts.names.get(subject, facts.text(subject)),
        account=account_of(facts, stated),
        region=str(region) if region else None,
        cause=str(stated.get("cause") or "denied"),
    )


def add_gap(facts: Facts, action: str, subject: str, place: tuple[str, str], cause: str) -> None:
    """Add the gap itself, once; ``place`` is its account and region."""
    account, region = place
    service, _, name = action.partition(":")
    if action == "kms:GetKeyLastUsage":
        values = {"key_arn": subject, "action": action, "cause": cause}
        facts.add(KeyLastUseGap, {}, **values, code="AccessDeniedException", message=f"not authorized: {action}")
        return
    row = {
        "account_id": account,
        "region": region,
        "service": service,
        "operation": OPERATIONS.get(action, name),
        "subject": subject,
    }
    if any(all(one[key] == value for key, value in row.items()) for one in facts.rows.get(Gap, ())):
        return
    facts.add(
        Gap, {}, **row, action=action, cause=cause, code="AccessDeniedException", message=f"not authorized: {action}"
    )
    if facts.outcomes.get((account, region)) == "complete":
        facts.outcomes[account, region] = "partial"
