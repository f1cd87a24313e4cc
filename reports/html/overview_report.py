"""The sections of the report `overview`: one query per section, executed when the template renders it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Final

from models.aws_types import service_label
from reports.access.engine.kms_actions import CROSS_ACCOUNT, KEY_LEVEL
from reports.html.filters import conditions, date, days, region
from reports.html.findings_section import FindingsSection
from reports.html.labels import (
    ALWAYS_LISTED,
    CHECK_LABELS,
    CLASS_NOTES,
    CLASSES,
    KEY_SHARES,
    OUTCOMES,
    VOCABULARIES,
    rule_state,
    status_changes,
)
from reports.html.run_header import RunReport
from reports.html.situations import LISTED, Situations, situations
from reports.html.tables import DataTable
from reports.html.trends import RISK_RULE, History
from reports.mart.rows import Row

_ACTIONS: Final = {f"kms:{name}".lower(): f"kms:{name}" for name in KEY_LEVEL | CROSS_ACCOUNT}
"""The actions by their lower-case name, which policies are compared by."""

_COUNTED: Final = {"pass": "pass", "na": "not_applicable"}
"""The columns of the table of rules that not every report can count."""


SERVICES: Final = 8
"""The number of services in the chart of references; a table has all of them."""
HEAT_MAP: Final = 15
"""The number of accounts in the heat map; a table has all of them."""


class OverviewReport(RunReport):
    """The data of the template."""

    tables: tuple[str, ...] = (
        "changes", "keys", "dependents", "references", "principals", "vendors", "checks", "rules", "findings", "resolved",
        "unknown_resources", "coverage", "gaps", "external_access",
    )  # fmt: skip
    risk_rule: Final = RISK_RULE

    @cached_property
    def findings(self) -> FindingsSection:
        """The results of the rules."""
        counts_passes = self.subject is None or self.subject.counts_passes
        return FindingsSection(self._source, self._settings, self.run, counts_passes=counts_passes)

    @cached_property
    def situations(self) -> Situations:
        """What needs attention, by root cause."""
        limit = min(self._limit, LISTED)
        return situations(
            self._source.limited("situations", limit, at=self.run["started_at"], run_id=self.run["run_id"])
        )

    @cached_property
    def figures(self) -> Row:
        """The key figures of the summary."""
        rows = self._source.table("kpis", run_id=self.run["run_id"], risk_rule=RISK_RULE)
        return next(iter(rows), {})

    @cached_property
    def history(self) -> History:
        """The figures of the latest runs."""
        return History(self._source)

    @cached_property
    def critical_ages(self) -> Row:
        """How long the critical findings have failed."""
        return self._source.row("critical_ages", at=self.run["started_at"]) or {}

    @cached_property
    def key_shares(self) -> dict[str, dict[str, int]]:
        """The customer managed keys by state, rotation, last use, age and origin; a value without a label is unknown."""
        shares: dict[str, Counter[str]] = {name: Counter() for name in KEY_SHARES}
        for row in self._source.rows("key_shares", at=self.run["started_at"]):
            for name, counts in shares.items():
                counts[row[name] if row[name] in VOCABULARIES[f"key_{name}"] else "unknown"] += row["keys"]
        return {name: dict(counts) for name, counts in shares.items()}

    @cached_property
    def external_access(self) -> DataTable:
        """The parties outside the organization with access to keys."""
        return self.data_table("external_access", services=self._services)

    @cached_property
    def _services(self) -> dict[str, list[str]]:
        """The labels of the services, as a map for queries; a map has at least one entry."""
        return _map({row["service"]: service_label(row["service"]) for row in self.rows("key_class_counts")} | {"": ""})

    def keys(self) -> DataTable:
        """Keys with policy, grants, tags and dependents; the keys of situations first."""
        unread = ", but not everything could be read" if self.open_gaps else ""
        table = self.data_table("keys", first=list(self.situations.keys), services=self._services, unread=unread)
        for name in ("policy", "grant_list"):
            for row in table.rows:
                for line in row[table.fields.index(name)] or ():
                    line[-1] = _conditions(line[-1])
        return table

    def dependents(self) -> DataTable:
        """The keys that resources use, by the number of dependents."""
        return self.data_table("dependents", services=self._services)

    def references(self) -> DataTable:
        """Every reference of a resource to a key."""
        return self.data_table("references", services=self._services, notes=_map(CLASS_NOTES))

    @cached_property
    def changes(self) -> DataTable:
        """The changes of the run; policies are written as statements."""
        table = self.data_table("changes")
        if table.rows:
            columns = [table.fields.index(name) for name in ("before", "after")]
            for row in table.rows:
                for column in columns:
                    row[column] = statements(row[column])
        return table

    def checks(self) -> DataTable:
        """The results of the vendor profiles."""
        return self.data_table("checks", checks=_map(CHECK_LABELS))

    def vendors(self) -> DataTable:
        """The vendor profiles with their counts."""
        results = VOCABULARIES["vendor_result"]
        rows = [
            {
                **row,
                "counts": [0 if row["not_checked"] else row[name] for name in results],
                "deadline": row["deadline"] and date(row["deadline"]),
                "days_left": row["deadline"] and days(row["days_left"]),
                "checked": row["profile"] if row["keys"] or row["wrong"] else None,
            }
            for row in self.rows("vendor_profiles")
        ]
        return self.table_of("vendors", rows)

    def evidence(self) -> DataTable:
        """The failed, unknown and waived findings."""
        return self.open_findings(self.findings).link_to(self.principals, "principal", "resource_arn")

    def unknown_resources(self) -> DataTable:
        """The resources with the most unknown results."""
        listed = self._source.limited("most_unknown", 500)
        arns = [row["resource_arn"] for row in listed.rows]
        return self.data_table("unknown_resources", resource_arns=arns, total=listed.total)

    def gaps(self) -> DataTable:
        """The open gaps."""
        return self.data_table("gaps").link_to(self.principals, "principal", "subject")

    @cached_property
    def principals(self) -> DataTable:
        """The principals named in policies and grants."""
        return self.data_table("principals", nested=10)

    def rules(self) -> DataTable:
        """The rules with their counts, explanations and fixes; failing rules first."""
        table = self.table_of("rules", list(map(_rule, self.findings.rules)))
        counted = [
            column for column in table.spec["columns"] if _COUNTED.get(column[0], "fail") in self.findings.totals
        ]
        return replace(table, spec={**table.spec, "columns": counted})

    def resolved(self) -> DataTable:
        """The findings that were resolved in this run."""
        return self.data_table("resolved", at=self.run["started_at"])

    @cached_property
    def coverage(self) -> DataTable:
        """The outcome of each account in each region; the regions are columns."""
        table = self.data_table("coverage", outcomes=_map(OUTCOMES))
        regions = [row["region"] for row in self.rows("regions")]
        names = [f"r{index}" for index in range(len(regions))]
        columns = [
            [name, region(code), "cell", [["outcome", name, {"v": "outcome"}]]]
            for name, code in zip(names, regions, strict=True)
        ]
        rows = [[*row[:-1], *map((row[-1] or {}).get, regions)] for row in table.rows]
        spec = {**table.spec, "columns": [*table.spec["columns"], *columns]}
        return replace(table, spec=spec, fields=(*table.fields[:-1], *names), rows=rows)

    @property
    def heat_map(self) -> list[tuple[Row, list[str | None]]]:
        """The first accounts of the coverage, those with gaps first, with the outcome of each region."""
        names = [column[0] for column in self.coverage.columns[1:]]
        return [
            (
                row,
                [
                    row[name] or ("failed" if (row["whole"] or "").startswith(OUTCOMES["failed"]) else None)
                    for name in names
                ],
            )
            for row in self.coverage.top[:HEAT_MAP]
        ]

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """References by service and key class; the services in ALWAYS_LISTED come first."""
        by_service = {
            service: {row["key_class"]: row["references"] for row in rows}
            for service, rows in groupby(self.rows("key_class_counts"), lambda row: row["service"])
        }
        return {name: by_service.pop(name, {}) for name in ALWAYS_LISTED} | by_service

    @property
    def all_classes(self) -> dict[str, int]:
        """References by key class, over all services."""
        return {name: sum(counts.get(name, 0) for counts in self.classes.values()) for name in CLASSES}

    @property
    def largest_services(self) -> list[tuple[str, dict[str, int], int]]:
        """The services with the most references, and how long their bars are, in percent of the longest."""
        counted = [(name, counts) for name, counts in self.classes.items() if counts]
        counted.sort(key=lambda service: -sum(service[1].values()))
        longest = max((sum(counts.values()) for _, counts in counted), default=1)
        return [(name, counts, max(5, sum(counts.values()) * 100 // longest)) for name, counts in counted[:SERVICES]]

    @property
    def vendor_failing(self) -> int:
        """The number of broken, blocked and over-shared keys, plus the deviations from vendor requirements."""
        counted = ("broken", "blocked_by_policy", "over_shared", "wrong")
        return sum(row[name] for row in self.rows("vendor_profiles") for name in counted)


def _map(values: Mapping[str, str]) -> dict[str, list[str]]:
    """A mapping as DuckDB expects the value of a MAP parameter."""
    return {"key": list(values), "value": list(values.values())}


@lru_cache(maxsize=4096)
def _conditions(text: str | None) -> str:
    return "\n".join(conditions(text)) or "none"


def _rule(rule: Row) -> Row:
    is_open = rule["fail"] or rule["unknown"] or rule["waived"]
    facts = [
        ["Why", rule["why"] or "The rule states no reason."],
        ["Fix", rule["fix"] or "The rule states no fix."],
        ["Console", rule["console"]],
        ["Covers", "; ".join(rule["frameworks"] or ())],
        ["Every result", f"`kmsledger rules run {rule['rule_id']}` lists each resource, also those that pass"],
    ]
    return {
        **{name: rule[name] for name in ("severity", "rule_id", "title", "family", *VOCABULARIES["finding"])},
        "state": rule_state(rule),
        "open_rule": rule["rule_id"] if is_open else None,
        "counts": [rule[name] or 0 for name in VOCABULARIES["finding"]],
        "status_changes": status_changes(rule["status_changes"]),
        "summary": "Why, and how to fix it",
        "facts": [fact for fact in facts if fact[1]],
        "cli": rule["cli"],
        "terraform": rule["terraform"],
    }


def statements(text: str | None) -> str | None:
    """The policy statements of a change as sentences, one line each; any other value is returned unchanged."""
    if text is None or not text.startswith("[{"):
        return text
    try:
        return "\n".join(map(_statement, json.loads(text)))
    except (ValueError, TypeError, AttributeError):
        return text


def _statement(statement: dict[str, Any]) -> str:
    sid = f"{statement['Sid']}: " if statement.get("Sid") else ""
    who = "; ".join(_principals(statement)) or "nobody"
    actions = ", ".join(map(_action, _listed(statement.get("Action", statement.get("NotAction")))))
    actions = f"all except {actions}" if "NotAction" in statement else actions
    tests = " and ".join(conditions(json.dumps(statement.get("Condition") or {})))
    return f"{sid}{statement.get('Effect', 'no effect')} {who}: {actions or 'nothing'}{f' if {tests}' if tests else ''}"


@lru_cache(maxsize=1024)
def _action(name: str) -> str:
    """An action of a canonical policy, where it is in lower case, as AWS writes it."""
    prefix = name.partition("*")[0]
    written = next((action for lower, action in _ACTIONS.items() if lower.startswith(prefix)), name)
    return (_ACTIONS.get(name) or written[: len(prefix)] + name[len(prefix) :]) if len(prefix) > len("kms:") else name


def _principals(statement: dict[str, Any]) -> Iterator[str]:
    named = statement.get("NotPrincipal", statement.get("Principal", {}))
    prefix = "everyone except " if "NotPrincipal" in statement else ""
    if not isinstance(named, dict):
        named = {"": named}
    for names in named.values():
        yield prefix + ", ".join(_listed(names))


def _listed(value: Any) -> list[str]:
    return [] if value is None else [str(item) for item in (value if isinstance(value, list) else [value])]
