"""What the rules say, as the reports and the mail show it: counts, what turned in this run, and the findings of a rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Final

from models.settings import Settings
from reports.html.query_runner import Row, Source

STATUSES: Final = ("fail", "unknown", "waived", "pass", "not_applicable")
MOVES: Final = ("new", "reopened", "returned", "unknown", "resolved")
"""How a finding turns in a run; `returned` ones failed before, and were waived or unknown in between."""
SHOWN_MOVES: Final = 25
"""How many findings are listed of each way to turn."""
SHOWN_UNDECIDED: Final = 10
"""How many of the things are listed that most rules cannot tell about."""


@dataclass
class Family:
    """The rules of one family that neither fail nor leave anything open."""

    name: str
    rules: list[Row] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Resources by status."""
        return {name: sum(rule[name] for rule in self.rules) for name in STATUSES}

    @property
    def idle(self) -> int:
        """How many of the rules have nothing to judge."""
        return sum(not (rule["pass"] or rule["waived"]) for rule in self.rules)


class Verdicts:
    """The rules' verdicts of the mart's run."""

    def __init__(self, source: Source, settings: Settings, run: Row) -> None:
        self._source = source
        self._run = run
        self.limit = settings.report.findings_limit

    @cached_property
    def rules(self) -> list[Row]:
        """The rules with their counts: the failing ones first, then those that cannot tell, the gravest first in both."""
        moved = self._moved
        return [{**row, "moved": moved.get(row["rule_id"], {})} for row in self._source.rows("rules")]

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """The rules in force."""
        return {rule["rule_id"]: rule for rule in self.rules}

    @cached_property
    def open_rules(self) -> list[Row]:
        """The rules that fail, cannot tell, or whose failures are accepted."""
        return [rule for rule in self.rules if rule["fail"] or rule["unknown"] or rule["waived"]]

    @cached_property
    def quiet_families(self) -> list[Family]:
        """All other rules."""
        families: dict[str, Family] = {}
        for rule in self.rules:
            if not (rule["fail"] or rule["unknown"] or rule["waived"]):
                families.setdefault(rule["family"], Family(rule["family"])).rules.append(rule)
        return [families[name] for name in sorted(families)]

    @cached_property
    def totals(self) -> dict[str, int]:
        """Findings by status."""
        return {name: sum(rule[name] for rule in self.rules) for name in STATUSES}

    @cached_property
    def judged_before(self) -> bool:
        """Whether an earlier run was judged: else there is nothing to compare with."""
        row = self._source.row("has_previous_results", run_id=self._run["run_id"])
        return bool(row and row["evaluated"])

    @cached_property
    def _moved(self) -> Mapping[str, Mapping[str, int]]:
        if not self.judged_before:
            return {}
        moved: dict[str, dict[str, int]] = {}
        for row in self._source.rows("status_changes", at=self._run["started_at"]):
            moved.setdefault(row["rule_id"], {})[row["moved"]] = row["findings"]
        return moved

    @cached_property
    def moved(self) -> dict[str, int]:
        """How many findings turned in this run, by the way in which they did; none where no earlier run was judged."""
        return {name: sum(counts.get(name, 0) for counts in self._moved.values()) for name in MOVES}

    @cached_property
    def moves(self) -> list[tuple[str, list[Row]]]:
        """What turned in this run: the gravest findings of each way to turn."""
        if not any(self.moved.values()):
            return []
        rows = self._source.rows(
            "status_change_rows", at=self._run["started_at"], run_id=self._run["run_id"], limit=SHOWN_MOVES
        )
        return [(name, list(group)) for name, group in groupby(rows, lambda row: row["moved"])]

    def listed(self, rule_id: str, limit: int | None = None) -> Iterator[Row]:
        """The first findings of a rule of each status that somebody should see: at most `limit`, or the settings' number."""
        rows = self._source.rows(
            "findings", rule_id=rule_id, at=self._run["started_at"], limit=self.limit if limit is None else limit
        )
        for row in rows:
            yield row if self.judged_before else {**row, "moved": None}

    def left_out(self, rule: Row) -> list[tuple[str, int]]:
        """By status, how many findings of a rule are not listed."""
        return [(name, rule[name] - self.limit) for name in STATUSES[:3] if rule[name] > self.limit]

    @cached_property
    def undecided(self) -> list[Row]:
        """The things that most rules cannot tell about."""
        return list(self._source.rows("unknown_findings", limit=SHOWN_UNDECIDED))
