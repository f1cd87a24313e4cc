"""The change history of a key since the run that first saw it: every change, every gap, and the resources that used it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from models.run_status import RunStatus
from reports.answers import identifier_lookup, key_history_sql
from reports.answers.policy_diff import statement_details
from reports.answers.version_diff import VersionDiffs, label, read
from reports.mart import as_of_connection
from reports.mart.as_of import RunRef, moments, resolve_as_of, stamp
from reports.mart.change_event import Detail, Event, describe, format_account_region, run_to_dict, value
from reports.mart.connection import rows
from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

FORMAT = "kmsledger.history/1"
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


@dataclass(frozen=True, slots=True)
class AliasPeriod:
    """The runs during which an alias had one target; ``until`` is the first run without it, None if it is current."""

    name: str
    alias_arn: str
    key_arn: str | None
    since: int
    since_at: dt.datetime
    until: int | None
    until_at: dt.datetime | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "alias_arn": self.alias_arn,
            "alias_name": self.name,
            "key_arn": self.key_arn,
            "from_run": self.since,
            "from": value(self.since_at),
            "until_run": self.until,
            "until": value(self.until_at),
        }

    def text_line(self) -> str:
        """One line for a terminal."""
        return printable(f"{self.name}: {self.describe_target()}")

    def describe_target(self) -> str:
        """The target and the runs, without the alias."""
        key = "no key" if self.key_arn is None else f"key {self.key_arn.rpartition('/')[2]}"
        until = "" if self.until is None else f" until run {self.until} ({self.until_at:%Y-%m-%d})"
        return f"{key} since run {self.since} ({self.since_at:%Y-%m-%d}){until}"


@dataclass(slots=True)
class KeyHistory:
    """The history of one key."""

    key_arn: str
    key_id: str
    account_id: str
    account_name: str | None
    region: str
    aliases: list[AliasPeriod]
    """All targets of the aliases that ever pointed at this key."""
    events: list[Event] = field(default_factory=list)
    current: dict[str, Any] | None = None
    """Its row in the view `keys`; None if the key no longer exists."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        current = None if self.current is None else {name: value(raw) for name, raw in self.current.items()}
        return {
            "key_arn": self.key_arn,
            "key_id": self.key_id,
            "account_id": self.account_id,
            "account_name": self.account_name,
            "region": self.region,
            "aliases": [period.to_dict() for period in self.aliases],
            "events": [event.to_dict() for event in self.events],
            "current": current,
        }

    def text_lines(self, last_run: RunRef) -> list[str]:
        """Lines for a terminal."""
        lines = [printable(f"Key {self.key_arn}")]
        lines.append(printable(f"  in {format_account_region(self.account_id, self.account_name, self.region)}"))
        lines += (f"  {period.text_line()}" for period in self.aliases)
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
        grants = "grants unknown" if current["grants"] is None else _count(current["grants"], "grant")
        rotation_status = current["rotation_status"]
        rotation = "unknown" if rotation_status is None else describe(rotation_status.replace("_", " "))
        used_by = _count(current["dependent_resources"], "resource")
        state = f"state {current['state'] or 'unknown'}, rotation {rotation}, {grants}, used by {used_by}"
        lines = [f"{state}, aliases: {describe(current['aliases'])}"]
        if current["freshness"] != "current":
            denied = f"; denied: {', '.join(current['denied_actions'])}" if current["denied_actions"] else ""
            lines.append(f"last known state, confirmed by run {current['last_seen_run']}{denied}")
        return lines


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """The histories of the requested key, or of all keys that an alias pointed at."""

    run: RunRef
    alias_arn: str | None
    keys: list[KeyHistory]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger history --help` describes."""
        return {
            "format": FORMAT,
            "to": run_to_dict(self.run),
            "alias_arn": self.alias_arn,
            "keys": [key.to_dict() for key in self.keys],
        }

    def to_text(self) -> str:
        """Text for a terminal."""
        lines: list[str] = []
        if self.alias_arn is not None:
            periods = {
                period: None for key in self.keys for period in key.aliases if period.alias_arn == self.alias_arn
            }
            lines.append(printable(f"{self.alias_arn} pointed at"))
            lines += (f"  {period.describe_target()}" for period in sorted(periods, key=lambda period: period.since))
            lines.append("")
        for number, key in enumerate(self.keys):
            lines += [*([""] if number else []), *key.text_lines(self.run)]
        return "\n".join(lines)


def history(path: Path, text: str) -> HistoryResult:
    """The history of the key with an ARN or ID, or of all keys that an alias pointed at.

    Raises MartError, or QueryError (exit code 2) if nothing matches, or if several keys have the ID or several aliases the name.
    """
    duck = as_of_connection.opened(path)
    with duck:
        macros = resources.files("reports.mart").joinpath("change_queries").joinpath("05_noun_macros.sql")
        duck.execute(macros.read_text(encoding="utf-8"))
        runs = moments(duck)
        match = identifier_lookup.find_keys(duck, text)
        if len(match.alias_arns) > 1:
            raise QueryError(_ambiguous(f"there are {len(match.alias_arns)} aliases {text!r}", match.alias_arns))
        if not match.alias_arns and len(match.key_arns) > 1:
            raise QueryError(_ambiguous(f"{text!r} is the ID of {len(match.key_arns)} keys", match.key_arns))
        histories = _load_histories(duck, match.key_arns)
        events = _load_events(duck, runs, histories)
        for key in histories:
            key_events = [event for event in events if _concerns(event, key.key_arn)]
            key.events = sorted(key_events, key=lambda event: (event.run_id, _RANKS.get(event.event_type, len(_RANKS))))
        if match.alias_arns:
            histories.sort(key=lambda key: min(period.since for period in key.aliases if period.key_arn == key.key_arn))
        return HistoryResult(resolve_as_of(runs), next(iter(match.alias_arns), None), histories)


_RANKS = {
    event_type: rank
    for rank, event_type in enumerate(
        ("first_seen", "first_read", "gap", "not_crawled", "policy_opened", "policy_changed")
    )
}


def _ambiguous(problem: str, arns: Sequence[str]) -> str:
    return f"{problem}: specify the ARN: {', '.join(map(printable, arns))}"


def _concerns(event: Event, key_arn: str) -> bool:
    return event.key_arn == key_arn or (
        event.event_type in {"rekeyed", "alias_moved"} and key_arn in {event.before, event.after}
    )


def _load_histories(duck: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> list[KeyHistory]:
    values = {"keys": list(keys)}
    periods = [AliasPeriod(**row) for row in rows(duck, key_history_sql.PERIODS, values)]
    current = {
        row["key_arn"]: row for row in rows(duck, "SELECT * FROM keys WHERE key_arn IN (SELECT unnest($keys))", values)
    }
    histories = []
    for row in rows(duck, key_history_sql.KEYS, values):
        alias_arns = {period.alias_arn for period in periods if period.key_arn == row["key_arn"]}
        aliases = [period for period in periods if period.alias_arn in alias_arns]
        histories.append(KeyHistory(**row, aliases=aliases, current=current.get(row["key_arn"])))
    return histories


def _load_events(duck: duckdb.DuckDBPyConnection, runs: list[RunRef], histories: Iterable[KeyHistory]) -> list[Event]:
    keys = {key.key_arn: key for key in histories}
    values = {"keys": list(keys)}
    started_at = {run.run_id: run.started_at for run in runs}
    diffs = VersionDiffs(duck, list(keys))
    first_runs = {row["key_arn"]: row["run_id"] for row in rows(duck, key_history_sql.FIRST_RUN, values)}
    changes = [Event(**row) for row in rows(duck, key_history_sql.CHANGES, values)]
    created = {event.key_arn: event for event in changes if event.event_type == "key_created"}
    events = diffs.add_details(event for event in changes if not _is_first(event, first_runs))
    for event in events:
        if event.event_type == "key_created":  # the key is listed again
            event.details += _facts(duck, keys[event.key_arn or ""], event.run_id)
    for (run_id, key_arn), details in diffs.unreported(events):
        message = f"Key {_label(keys[key_arn], run_id)} changed: {', '.join(detail.name for detail in details)}."
        events.append(_event(keys[key_arn], run_id, started_at, "metadata_changed", message, details=details))
    for key_arn, key in keys.items():
        first_run = first_runs[key_arn]
        message = f"Key {_label(key, first_run)} in {_account_region(key)} was first seen."
        if _is_first(created.get(key_arn), first_runs):
            message = created[key_arn].message
        pruned = next(run.status == RunStatus.PRUNED for run in runs if run.run_id == first_run)
        facts = [] if pruned else _facts(duck, key, first_run)
        message += " Its facts at that time were pruned." if pruned else ""
        events.append(_event(key, first_run, started_at, "first_seen", message, details=facts))
    first_reads = _first_reads(duck, keys, first_runs, started_at)
    events += first_reads.values()
    events += _rotations(duck, keys, first_runs, started_at, first_reads)
    for row in rows(duck, key_history_sql.USES, values):
        key = keys[row.pop("key_arn")]
        if row["run_id"] == first_runs[key.key_arn] and row["event_type"] != "use_ended":
            continue  # the first facts of the key contain it
        message = row.pop("message").replace("{key}", f"key {_label(key, row['run_id'])}")
        role = Detail("role", "stated", after=row.pop("role"))
        events.append(_event(key, row.pop("run_id"), started_at, row.pop("event_type"), message, details=[role], **row))
    for row in rows(duck, key_history_sql.GAPS, values):
        key = keys[row["key_arn"]]
        start = max(row["since"], first_runs[key.key_arn])
        if row["until"] is None or row["until"] > start:
            message = f"{', '.join(row['actions'])} could not be read: {row['reason']}."
            events.append(_lasting_event(key, "gap", (start, row["until"]), message, started_at))
    events += (event for key in keys.values() for event in _unread_periods(duck, key, first_runs[key.key_arn], runs))
    return events


def _is_first(event: Event | None, first_runs: dict[str, int]) -> bool:
    """Whether the event is the creation of a key in its first run, which the event `first_seen` replaces."""
    return event is not None and event.event_type == "key_created" and event.run_id == first_runs[event.key_arn or ""]


def _facts(duck: duckdb.DuckDBPyConnection, key: KeyHistory, run_id: int, sections: Iterable[str] = ()) -> list[Detail]:
    """The facts of a key as of a run, all or some sections."""
    row = rows(duck, key_history_sql.FACTS, {"key": key.key_arn, "run": run_id})[0]
    details: dict[str, list[Detail]] = {
        "metadata": [
            Detail(label(name), "stated", after=row[name]) for name in _METADATA if row[name] not in {None, ""}
        ],
        "rotation": [],
        "policy": statement_details(row["policy"]) if row["policy"] is not None else [],
        "grants": [
            Detail(f"grant for {grant['grantee']}", "stated", after=read("operations", grant["operations"]))
            for grant in row["grants"] or ()
        ],
    }
    if row["rotation_status"] is not None:
        period = "" if row["period_days"] is None else f", every {row['period_days']} days"
        rotation = f"{row['rotation_status'].replace('_', ' ')}{period}"
        details["rotation"].append(Detail("rotation", "stated", after=rotation))
    for name in ("aliases", "tags", "rotated", "dependent_resources"):
        details[name] = [Detail(label(name), "stated", after=row[name])] if row[name] else []
    order = ("metadata", "rotation", "rotated", "aliases", "tags", "dependent_resources", "policy", "grants")
    selected = set(sections) or set(order)
    return [detail for name in order if name in selected for detail in details[name]]


def _first_reads(
    duck: duckdb.DuckDBPyConnection,
    keys: dict[str, KeyHistory],
    first_runs: dict[str, int],
    started_at: dict[int, dt.datetime],
) -> dict[tuple[int, str], Event]:
    """By run and key, the facts that could be read for the first time after a gap since the key was first seen."""
    events = {}
    for row in rows(duck, key_history_sql.CLOSED_GAPS, {"keys": list(keys)}):
        key, run_id = keys[row["key_arn"]], row["run_id"]
        sections = [_SECTIONS[operation] for operation in row["operations"] if operation in _SECTIONS]
        if row["since"] <= first_runs[key.key_arn] and sections:
            message = f"{', '.join(row['actions'])} could be read for key {_label(key, run_id)} for the first time."
            details = _facts(duck, key, run_id, sections)
            events[run_id, key.key_arn] = _event(key, run_id, started_at, "first_read", message, details=details)
    return events


def _rotations(
    duck: duckdb.DuckDBPyConnection,
    keys: dict[str, KeyHistory],
    first_runs: dict[str, int],
    started_at: dict[int, dt.datetime],
    first_reads: dict[tuple[int, str], Event],
) -> list[Event]:
    """The rotations, except those that the details of a key's first facts or of a first read contain."""
    query = """
    SELECT key_arn, rotated_at, any_value(rotation_type) AS rotation_type, min(valid_from) AS run_id
    FROM internal.key_rotation_event WHERE key_arn IN (SELECT unnest($keys))
    GROUP BY key_arn, rotated_at ORDER BY rotated_at
    """
    events = []
    for row in rows(duck, query, {"keys": list(keys)}):
        key, run_id = keys[row["key_arn"]], row["run_id"]
        first_read = first_reads.get((run_id, key.key_arn))
        if run_id == first_runs[key.key_arn] or (first_read and row["rotated_at"] in _rotation_times(first_read)):
            continue
        details = [Detail("rotation", "stated", after=row["rotation_type"])] if row["rotation_type"] else []
        message = f"Key {_label(key, run_id)} was rotated on {stamp(row['rotated_at'])}."
        events.append(_event(key, run_id, started_at, "rotated", message, details=details))
    return events


def _unread_periods(
    duck: duckdb.DuckDBPyConnection, key: KeyHistory, first_run: int, runs: list[RunRef]
) -> list[Event]:
    """The periods in which the key's account-region was not read."""
    values = {"account": key.account_id, "region": key.region}
    outcomes = {row["run_id"]: row for row in rows(duck, key_history_sql.OUTCOMES, values)}
    started_at = {run.run_id: run.started_at for run in runs}
    periods: list[tuple[int, int | None, str]] = []
    for run in runs:
        if run.run_id < first_run or not run.ended:
            continue
        row = outcomes.get(run.run_id)
        reason = None
        if row is None:
            reason = "it was not crawled"
        elif row["outcome"] not in {"complete", "partial"}:
            reason = row["reason"] or f"it is {row['outcome']}"
        if periods and periods[-1][1] is None and periods[-1][2] != reason:
            periods[-1] = (periods[-1][0], run.run_id, periods[-1][2])
        if reason is not None and not (periods and periods[-1][1] is None):
            periods.append((run.run_id, None, reason))
    return [
        _lasting_event(
            key, "not_crawled", (since, until), f"the account-region could not be read: {reason}.", started_at
        )
        for since, until, reason in periods
    ]


def _lasting_event(
    key: KeyHistory, event_type: str, span: tuple[int, int | None], message: str, started_at: dict[int, dt.datetime]
) -> Event:
    since, until = span
    period = "Since then " if until is None else f"From then until run {until} ({stamp(started_at[until])}) "
    return _event(key, since, started_at, event_type, period + message, until_run=until)


def _event(
    key: KeyHistory, run_id: int, started_at: dict[int, dt.datetime], event_type: str, message: str, **values: Any
) -> Event:
    return Event(
        run_id,
        started_at[run_id],
        event_type,
        message,
        account_id=key.account_id,
        account_name=key.account_name,
        region=key.region,
        key_arn=key.key_arn,
        **({"subject": _label(key, run_id)} | values),
    )


def _rotation_times(event: Event) -> list[Any]:
    return [rotated_at for detail in event.details if detail.name == "rotated" for rotated_at in detail.after]


def _account_region(key: KeyHistory) -> str:
    """The account-region as the messages of changes write it."""
    return (
        f"{key.account_name} ({key.account_id}, {key.region})"
        if key.account_name
        else f"{key.account_id}, {key.region}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _label(key: KeyHistory, run_id: int) -> str:
    """The key's first alias as of a run, or else its ID."""
    names = (
        period.name
        for period in key.aliases
        if period.key_arn == key.key_arn and period.since <= run_id and (period.until is None or period.until > run_id)
    )
    return min(names, default=key.key_id)
