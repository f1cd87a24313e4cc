"""The sections of the report `changes`: what differs between two runs, by account and key, the most important first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import groupby, islice
from typing import Any, Final

from models.settings import Settings
from models.severities import SEVERITIES
from reports.answers.change_event import Event
from reports.answers.run_diff import RunDiff, diff
from reports.html.labels import account
from reports.html.query_runner import Source
from reports.html.run_header import RunReport
from reports.html.subjects import Subject
from reports.html.tables import DataTable

LISTED: Final = 300
"""The maximum number of changes listed with their details by account and key; the table has all of them."""


class ChangesReport(RunReport):
    """The data of the template: the changes since an earlier run or date, by default since the previous run."""

    tables = ("differences",)
    listed = LISTED

    def __init__(
        self, source: Source, settings: Settings, subject: Subject | None = None, *, since: str | None = None
    ) -> None:
        super().__init__(source, settings, subject)
        self._since = since

    @cached_property
    def diff(self) -> RunDiff:
        """The differences. Raises QueryError if there is no such run, or if it is later."""
        return diff(self._settings.report.mart, self._since, str(self.run["run_id"]))

    @property
    def slug(self) -> str:
        """The earlier run, unless it is the default."""
        return f"since-run{self.diff.start.run_id}" if self._since is not None and self.diff.start else ""

    @cached_property
    def events(self) -> list[Event]:
        """The changes, the most important account first, in it the most important key, and of this the most important change."""
        unused = {row["key_arn"] for row in self.rows("unused_deletions")}
        for event in self.diff.events:
            if event.event_type == "deletion_scheduled" and event.key_arn in unused:
                event.severity = "low"
        events = sorted(self.diff.events, key=_rank)
        accounts, keys = (_first(events, group) for group in (_account, _key))
        return sorted(events, key=lambda event: (accounts[_account(event)], keys[_key(event)], _rank(event)))

    @property
    def severities(self) -> list[tuple[str, int]]:
        """The number of changes of each severity."""
        counts = Counter(event.severity for event in self.events)
        return [(severity, counts[severity]) for severity in SEVERITIES]

    @property
    def accounts(self) -> Iterator[tuple[str, int, list[tuple[str, list[Event]]]]]:
        """The first changes by account (title and number of its changes), and by key (its ARN, empty for other changes)."""
        totals = Counter(map(_account, self.events))
        for name, events in groupby(islice(self.events, LISTED), _account):
            keys = [(key, list(changes)) for (_, key), changes in groupby(events, _key)]
            yield account(*name) if name[0] else "No account", totals[name], keys

    def differences(self) -> DataTable:
        """The changes, the most important first, with their details as lines of text."""
        table = self.table_of("differences", list(map(_row, sorted(self.events, key=_rank)[: self._limit])))
        start = self.diff.start.run_id if self.diff.start else 0
        command = f"kmsledger diff --from {start} --to {self.run['run_id']} --format csv"
        return replace(table, total=len(self.events), spec={**table.spec, "command": command})


def _rank(event: Event) -> tuple[Any, ...]:
    return (SEVERITIES.index(event.severity), event.event_type, event.message)


def _account(event: Event) -> tuple[str, str | None]:
    return (event.account_id or "", event.account_name)


def _key(event: Event) -> tuple[str, str]:
    return (event.account_id or "", event.key_arn or "")


def _first(events: list[Event], group: Callable[[Event], Any]) -> dict[Any, int]:
    """The position of the first event of each group."""
    return {group(event): position for position, event in reversed(list(enumerate(events)))}


def _row(event: Event) -> dict[str, Any]:
    lines = [line for detail in event.details for line in detail.text_lines("")]
    return {
        "severity": event.severity,
        "message": event.message,
        "event_type": event.event_type.replace("_", " "),
        "account": event.account_name or event.account_id or "no account",
        "account_id": event.account_id,
        "region": event.region,
        "key_arn": event.key_arn,
        "summary": "Details" if lines else None,
        "details": "\n".join(lines) or None,
    }
