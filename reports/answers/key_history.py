"""The change history of a key since the run that first saw it: every change, every gap, and the resources that used it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import duckdb

from models.safe_text import printable
from reports.answers import identifier_lookup, key_history_sql
from reports.answers.change_event import Detail, Event, describe, fields_of, format_account_region, rank
from reports.answers.policy_diff import statement_details
from reports.answers.text import counted
from reports.answers.version_diff import VersionDiffs, label, read
from reports.mart import as_of_connection
from reports.mart.as_of import RunRef, moments, resolve_as_of, stamp
from reports.mart.errors import QueryError
from reports.mart.rows import Row, rows

FORMAT = "kmsledger.history/1"
_FIRST = ("first_seen", "first_read", "gap", "not_crawled", "policy_opened", "policy_changed")
"""The order of a run's events by type, before all other types."""
_METADATA = ("state", "manager", "description", "key_usage", "key_spec", "origin", "created_at", "multi_region_type")
_SECTIONS = {
    "DescribeKey": "metadata",
    "GetKeyPolicy": "policy",
    "ListGrants": "grants",
    "ListResourceTags": "tags",
    "GetKeyRotationStatus": "rotation",
    "ListKeyRotations": "rotated",
}
"""Operation to the section of a key's facts that it returns."""


@dataclass(slots=True)
class KeyHistory:
    """The history of one key."""

    key_arn: str
    key_id: str
    account_id: str
    account_name: str | None
    region: str
    aliases: list[Row]
    """All targets of the aliases that ever pointed at this key: the rows of PERIODS. ``until_run`` is the first run without."""
    events: list[Event] = field(default_factory=list)
    current: dict[str, Any] | None = None
    """Its row in the view `keys`; None if the key no longer exists."""
    first_run: int = field(kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {name: raw for name, raw in fields_of(self).items() if name != "first_run"}

    def text_lines(self, last_run: RunRef) -> list[str]:
        """Lines for a terminal."""
        lines = [printable(f"Key {self.key_arn}")]
        lines.append(printable(f"  in {format_account_region(self.account_id, self.account_name, self.region)}"))
        lines += (printable(f"  {period['alias_name']}: {_describe_target(period)}") for period in self.aliases)
        for run_id, group in groupby(self.events, lambda event: event.run_id):
            events = list(group)
            lines += ["", f"Run {run_id}, {stamp(events[0].occurred_at)}"]
            for event in events:
                lines += event.text_lines("  ")
        return [*lines, "", f"As of {last_run}", *(printable(f"  {line}") for line in self._current_lines())]

    def _current_lines(self) -> list[str]:
        current = self.current
        if current is None:
            return ["The key no longer exists."]
        grants = "grants unknown" if current["grants"] is None else counted(current["grants"], "grant")
        rotation_status = current["rotation_status"]
        rotation = "unknown" if rotation_status is None else describe(rotation_status.replace("_", " "))
        used_by = counted(current["dependent_resources"], "resource")
        state = f"state {current['state'] or 'unknown'}, rotation {rotation}, {grants}, used by {used_by}"
        lines = [f"{state}, aliases: {describe(current['aliases'])}"]
        stale = (
            [f"last known state, confirmed by run {current['last_seen_run']}"]
            if current["freshness"] == "stale"
            else []
        )
        failed = [f"{action} failed: {cause}" for action, cause in (current["failure_causes"] or {}).items()]
        if stale or failed:
            lines.append("; ".join(stale + failed))
        return lines


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """The histories of the requested key, or of all keys that an alias pointed at."""

    run: RunRef
    alias_arn: str | None
    keys: list[KeyHistory]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger history --help` describes."""
        return {"format": FORMAT, "to": self.run, "alias_arn": self.alias_arn, "keys": self.keys}

    def to_text(self) -> str:
        """Text for a terminal."""
        lines: list[str] = []
        if self.alias_arn is not None:
            periods = {
                period["from_run"]: f"  {_describe_target(period)}"
                for key in self.keys
                for period in key.aliases
                if period["alias_arn"] == self.alias_arn
            }
            lines.append(printable(f"{self.alias_arn} pointed at"))
            lines += (text for _, text in sorted(periods.items()))
            lines.append("")
        for number, key in enumerate(self.keys):
            lines += [*([""] if number else []), *key.text_lines(self.run)]
        return "\n".join(lines)


def _describe_target(period: Row) -> str:
    """The target of an alias and its runs, without the alias."""
    key = "no key" if period["key_arn"] is None else f"key {period['key_arn'].rpartition('/')[2]}"
    until = "" if period["until_run"] is None else f" until run {period['until_run']} ({period['until']:%Y-%m-%d})"
    return f"{key} since run {period['from_run']} ({period['from']:%Y-%m-%d}){until}"


def history(path: Path, text: str) -> HistoryResult:
    """The history of the key with an ARN or ID, or of all keys that an alias pointed at.

    Raises MartError, or QueryError (exit code 2) if nothing matches, or if several keys have the ID or several aliases the name.
    """
    with as_of_connection.opened(path) as duck:
        match = find_one(duck, text)
        runs = moments(duck)
        histories = key_histories(duck, runs, match.key_arns)
        if match.alias_arns:
            histories.sort(
                key=lambda key: min(period["from_run"] for period in key.aliases if period["key_arn"] == key.key_arn)
            )
        return HistoryResult(resolve_as_of(runs), next(iter(match.alias_arns), None), histories)


def find_one(duck: duckdb.DuckDBPyConnection, text: str) -> identifier_lookup.Match:
    """The key with an ARN or ID, or the keys that one alias pointed at. Raises QueryError if nothing or several match."""
    match = identifier_lookup.find_keys(duck, text)
    if len(match.alias_arns) > 1:
        raise QueryError(_ambiguous(f"there are {len(match.alias_arns)} aliases {text!r}", match.alias_arns))
    if not match.alias_arns and len(match.key_arns) > 1:
        raise QueryError(_ambiguous(f"{text!r} is the ID of {len(match.key_arns)} keys", match.key_arns))
    return match


def key_histories(duck: duckdb.DuckDBPyConnection, runs: list[RunRef], key_arns: Sequence[str]) -> list[KeyHistory]:
    """The histories of keys, from schema ``internal`` of the catalog in use."""
    macros = resources.files("reports.mart").joinpath("change_queries").joinpath("05_noun_macros.sql")
    duck.execute(macros.read_text(encoding="utf-8"))
    histories = _load_histories(duck, key_arns)
    events = _Events(duck, runs, histories).load()
    for key in histories:
        key_events = [event for event in events if _concerns(event, key.key_arn)]
        key.events = sorted(key_events, key=lambda event: (event.run_id, rank(event.event_type, _FIRST)))
    return histories


def _ambiguous(problem: str, arns: Sequence[str]) -> str:
    return f"{problem}: specify the ARN: {', '.join(map(printable, arns))}"


def _concerns(event: Event, key_arn: str) -> bool:
    return event.key_arn == key_arn or (
        event.event_type in {"rekeyed", "alias_moved"} and key_arn in {event.before, event.after}
    )


def _load_histories(duck: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> list[KeyHistory]:
    values = {"keys": list(keys)}
    periods = rows(duck, key_history_sql.PERIODS, values)
    current = {
        row["key_arn"]: row for row in rows(duck, "SELECT * FROM keys WHERE key_arn IN (SELECT unnest($keys))", values)
    }
    histories = []
    for row in rows(duck, key_history_sql.KEYS, values):
        alias_arns = {period["alias_arn"] for period in periods if period["key_arn"] == row["key_arn"]}
        aliases = [period for period in periods if period["alias_arn"] in alias_arns]
        histories.append(KeyHistory(**row, aliases=aliases, current=current.get(row["key_arn"])))
    return histories


class _Events:
    """The events of some keys, from the changes, gaps and facts of all runs."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, runs: list[RunRef], histories: Iterable[KeyHistory]) -> None:
        self._duck, self._runs = duck, runs
        self._keys = {key.key_arn: key for key in histories}
        self._started_at = {run.run_id: run.started_at for run in runs}

    def load(self) -> list[Event]:
        """All events, in no order."""
        keys = self._keys
        diffs = VersionDiffs(self._duck, list(keys))
        changes = [Event(**row) for row in self._rows(key_history_sql.CHANGES)]
        created = {event.key_arn: event for event in changes if self._is_first(event)}
        events = diffs.add_details(event for event in changes if not self._is_first(event))
        for event in events:
            if event.event_type == "key_created":  # the key is listed again
                event.details += self._facts(keys[event.key_arn or ""], event.run_id)
        for (run_id, key_arn), details in diffs.unreported(events):
            message = f"Key {_label(keys[key_arn], run_id)} changed: {', '.join(detail.name for detail in details)}."
            events.append(self._event(keys[key_arn], run_id, "metadata_changed", message, details=details))
        events += (self._first_seen(key, created.get(key_arn)) for key_arn, key in keys.items())
        first_reads = self._first_reads()
        events += first_reads.values()
        events += self._rotations(first_reads)
        for row in self._rows(key_history_sql.USES):
            key = keys[row.pop("key_arn")]
            if row["run_id"] == key.first_run and row["event_type"] != "use_ended":
                continue  # the first facts of the key contain it
            message = row.pop("message").replace("{key}", f"key {_label(key, row['run_id'])}")
            role = Detail("role", "stated", after=row.pop("role"))
            events.append(self._event(key, row.pop("run_id"), row.pop("event_type"), message, details=[role], **row))
        for row in self._rows(key_history_sql.GAPS):
            key = keys[row["key_arn"]]
            start = max(row["since"], key.first_run)
            if row["until"] is None or row["until"] > start:
                message = f"{', '.join(row['actions'])} could not be read: {row['reason']}."
                events.append(self._lasting_event(key, "gap", (start, row["until"]), message))
        events += (event for key in keys.values() for event in self._unread_periods(key))
        return events

    def _rows(self, query: str) -> list[Row]:
        return rows(self._duck, query, {"keys": list(self._keys)})

    def _is_first(self, event: Event) -> bool:
        """Whether the event is the creation of a key in its first run, which the event `first_seen` replaces."""
        return event.event_type == "key_created" and event.run_id == self._keys[event.key_arn or ""].first_run

    def _first_seen(self, key: KeyHistory, created: Event | None) -> Event:
        place = f"{key.account_id}, {key.region}"
        place = f"{key.account_name} ({place})" if key.account_name else place
        message = created.message if created else f"Key {_label(key, key.first_run)} in {place} was first seen."
        if next(run.pruned for run in self._runs if run.run_id == key.first_run):
            message += " Its facts at that time were pruned."
            return self._event(key, key.first_run, "first_seen", message)
        return self._event(key, key.first_run, "first_seen", message, details=self._facts(key, key.first_run))

    def _facts(self, key: KeyHistory, run_id: int, sections: Sequence[str] = ()) -> list[Detail]:
        """The facts of a key as of a run, all or some sections."""
        row = rows(self._duck, key_history_sql.FACTS, {"key": key.key_arn, "run": run_id})[0]
        if row["rotation_status"] is not None:
            period = "" if row["period_days"] is None else f", every {row['period_days']} days"
            row["rotation"] = f"{row['rotation_status'].replace('_', ' ')}{period}"

        def stated(*names: str) -> list[Detail]:
            return [Detail(label(name), "stated", after=row[name]) for name in names if row.get(name)]

        details = {
            "metadata": stated(*_METADATA),
            **{name: stated(name) for name in ("rotation", "rotated", "aliases", "tags", "dependent_resources")},
            "policy": statement_details(row["policy"]) if row["policy"] is not None else [],
            "grants": [
                Detail(f"grant for {grant['grantee']}", "stated", after=read("operations", grant["operations"]))
                for grant in row["grants"] or ()
            ],
        }
        return [detail for name, group in details.items() if not sections or name in sections for detail in group]

    def _first_reads(self) -> dict[tuple[int, str], Event]:
        """By run and key, the facts that could be read for the first time after a gap since the key was first seen."""
        events = {}
        for row in self._rows(key_history_sql.CLOSED_GAPS):
            key, run_id = self._keys[row["key_arn"]], row["run_id"]
            sections = [_SECTIONS[operation] for operation in row["operations"] if operation in _SECTIONS]
            if row["since"] <= key.first_run and sections:
                message = f"{', '.join(row['actions'])} could be read for key {_label(key, run_id)} for the first time."
                details = self._facts(key, run_id, sections)
                events[run_id, key.key_arn] = self._event(key, run_id, "first_read", message, details=details)
        return events

    def _rotations(self, first_reads: dict[tuple[int, str], Event]) -> Iterator[Event]:
        """The rotations, except those that the details of a key's first facts or of a first read contain."""
        query = """
        SELECT key_arn, rotated_at, any_value(rotation_type) AS rotation_type, min(valid_from) AS run_id
        FROM internal.key_rotation_event WHERE key_arn IN (SELECT unnest($keys))
        GROUP BY key_arn, rotated_at ORDER BY rotated_at
        """
        for row in self._rows(query):
            key, run_id = self._keys[row["key_arn"]], row["run_id"]
            first_read = first_reads.get((run_id, key.key_arn))
            if run_id == key.first_run or (first_read and row["rotated_at"] in _rotation_times(first_read)):
                continue
            details = [Detail("rotation", "stated", after=row["rotation_type"])] if row["rotation_type"] else []
            message = f"Key {_label(key, run_id)} was rotated on {stamp(row['rotated_at'])}."
            yield self._event(key, run_id, "rotated", message, details=details)

    def _unread_periods(self, key: KeyHistory) -> Iterator[Event]:
        """The periods in which the key's account-region was not read."""
        values = {"account": key.account_id, "region": key.region}
        outcomes = {row["run_id"]: row for row in rows(self._duck, key_history_sql.OUTCOMES, values)}
        reasons = [
            (run.run_id, _unread_reason(outcomes.get(run.run_id)))
            for run in self._runs
            if run.run_id >= key.first_run and run.ended
        ]
        periods = [(reason, next(group)[0]) for reason, group in groupby(reasons, lambda run: run[1])]
        for (reason, since), (_, until) in pairwise([*periods, (None, None)]):
            if reason is not None and since is not None:
                message = f"the account-region could not be read: {reason}."
                yield self._lasting_event(key, "not_crawled", (since, until), message)

    def _lasting_event(self, key: KeyHistory, event_type: str, span: tuple[int, int | None], message: str) -> Event:
        since, until = span
        period = "Since then "
        if until is not None:
            period = f"From then until run {until} ({stamp(self._started_at[until])}) "
        return self._event(key, since, event_type, period + message, until_run=until)

    def _event(self, key: KeyHistory, run_id: int, event_type: str, message: str, **values: Any) -> Event:
        place = {name: getattr(key, name) for name in ("account_id", "account_name", "region", "key_arn")}
        values = {"subject": _label(key, run_id), "message": message, "event_type": event_type} | values
        return Event(run_id=run_id, occurred_at=self._started_at[run_id], **place, **values)


def _unread_reason(row: Row | None) -> str | None:
    """Why a run did not read an account-region; None if it did."""
    if row is None:
        return "it was not crawled"
    return None if row["outcome"] in {"complete", "partial"} else row["reason"] or f"it is {row['outcome']}"


def _rotation_times(event: Event) -> list[Any]:
    return [rotated_at for detail in event.details if detail.name == "rotated" for rotated_at in detail.after]


def _label(key: KeyHistory, run_id: int) -> str:
    """The key's first alias as of a run, or else its ID."""
    names = (
        period["alias_name"]
        for period in key.aliases
        if period["key_arn"] == key.key_arn
        and period["from_run"] <= run_id
        and (period["until_run"] is None or period["until_run"] > run_id)
    )
    return min(names, default=key.key_id)
