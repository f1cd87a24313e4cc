"""The life of a key, from the run that first saw it until now: every change, every gap, whoever used it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from models.store.retention import PRUNED
from reports.answers import identifier_lookup, key_history_sql
from reports.answers.policy_diff import described
from reports.answers.version_diff import Pairs, named, read, rows
from reports.mart import as_of_connection
from reports.mart.as_of import Moment, moments, resolve, stamp
from reports.mart.change_event import Detail, Event, moment, place, value, words
from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

FORMAT = "kmsledger.history/1"
_FIRST = ("state", "manager", "description", "key_usage", "key_spec", "origin", "created_at", "multi_region_type")
_SECTIONS = {
    "DescribeKey": "metadata",
    "GetKeyPolicy": "policy",
    "ListGrants": "grants",
    "ListResourceTags": "tags",
    "GetKeyRotationStatus": "rotation",
    "ListKeyRotations": "rotated",
}
"""What an operation tells of a key."""


@dataclass(frozen=True, slots=True)
class Period:
    """From a run on, until the run (None: still so) in which it was over."""

    name: str
    """What it was about: the alias, or the key that an alias pointed at."""
    alias_arn: str
    key_arn: str | None
    since: int
    since_at: dt.datetime
    until: int | None
    until_at: dt.datetime | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "alias_arn": self.alias_arn,
            "alias_name": self.name,
            "key_arn": self.key_arn,
            "from_run": self.since,
            "from": value(self.since_at),
            "until_run": self.until,
            "until": value(self.until_at),
        }

    def line(self) -> str:
        """For people."""
        key = "no key" if self.key_arn is None else f"key {self.key_arn.rpartition('/')[2]}"
        until = "" if self.until is None else f" until run {self.until} ({self.until_at:%Y-%m-%d})"
        return printable(f"{self.name}: {key} since run {self.since} ({self.since_at:%Y-%m-%d}){until}")


@dataclass(slots=True)
class Life:
    """One key."""

    key_arn: str
    key_id: str
    account_id: str
    account_name: str | None
    region: str
    aliases: list[Period]
    """What its aliases pointed at, all their lives: at this key, and at others."""
    events: list[Event] = field(default_factory=list)
    now: dict[str, Any] | None = None
    """Its row in the view `keys`; None when it is gone."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        now = None if self.now is None else {name: value(one) for name, one in self.now.items()}
        return {
            "key_arn": self.key_arn,
            "key_id": self.key_id,
            "account_id": self.account_id,
            "account_name": self.account_name,
            "region": self.region,
            "aliases": [one.plain() for one in self.aliases],
            "events": [event.plain() for event in self.events],
            "now": now,
        }

    def lines(self, last: Moment) -> list[str]:
        """For people."""
        found = [printable(f"Key {self.key_arn}")]
        found.append(printable(f"  in {place(self.account_id, self.account_name, self.region)}"))
        found += (f"  {period.line()}" for period in self.aliases)
        for run_id, events in groupby(self.events, lambda event: event.run_id):
            together = list(events)
            found += ["", f"Run {run_id}, {stamp(together[0].occurred_at)}"]
            for event in together:
                found += event.lines("  ")
        return [*found, "", f"Now, after {last}", *(printable(f"  {line}") for line in self._now())]

    def _now(self) -> list[str]:
        if self.now is None:
            return ["The key is gone."]
        now = self.now
        grants = "grants not known" if now["grants"] is None else _counted(now["grants"], "grant")
        rotation = "not known" if now["rotation_status"] is None else words(now["rotation_status"].replace("_", " "))
        used = _counted(now["dependent_resources"], "resource")
        state = f"state {now['state'] or 'not known'}, rotation {rotation}, {grants}, used by {used}"
        lines = [f"{state}, aliases: {words(now['aliases'])}"]
        if now["freshness"] != "current":
            unread = f": {', '.join(now['denied_actions'])} cannot be read" if now["denied_actions"] else ""
            lines.append(f"as last known, confirmed by run {now['last_seen_run']}{unread}")
        return lines


@dataclass(frozen=True, slots=True)
class Lives:
    """The keys that were asked for: one, or those that an alias pointed at."""

    end: Moment
    alias_arn: str | None
    keys: list[Life]

    def plain(self) -> dict[str, Any]:
        """For JSON; the README describes it."""
        return {
            "format": FORMAT,
            "to": moment(self.end),
            "alias_arn": self.alias_arn,
            "keys": [one.plain() for one in self.keys],
        }

    def lines(self) -> list[str]:
        """For people."""
        found: list[str] = []
        if self.alias_arn is not None:
            periods = {
                period: None for one in self.keys for period in one.aliases if period.alias_arn == self.alias_arn
            }
            found.append(printable(f"{self.alias_arn} pointed at"))
            found += (f"  {one.line().partition(': ')[2]}" for one in sorted(periods, key=lambda one: one.since))
            found.append("")
        for number, one in enumerate(self.keys):
            found += [*([""] if number else []), *one.lines(self.end)]
        return found


def history(path: Path, text: str) -> Lives:
    """The life of the key that a key ARN or key id means, or of those that an alias pointed at.

    Raises MartError, or QueryError (exit code 2) for what means nothing, or several keys of one id or aliases of one name.
    """
    duck = as_of_connection.opened(path)
    with duck:
        words_file = resources.files("reports.mart").joinpath("change_queries").joinpath("05_noun_macros.sql")
        duck.execute(words_file.read_text(encoding="utf-8"))
        runs = moments(duck)
        chosen = identifier_lookup.keys(duck, text)
        if len(chosen.alias_arns) > 1:
            raise QueryError(_several(f"there are {len(chosen.alias_arns)} aliases {text!r}", chosen.alias_arns))
        if not chosen.alias_arns and len(chosen.key_arns) > 1:
            raise QueryError(_several(f"{text!r} is the id of {len(chosen.key_arns)} keys", chosen.key_arns))
        lives = _lives(duck, chosen.key_arns)
        events = _events(duck, runs, lives)
        for life in lives:
            mine = [event for event in events if _about(event, life.key_arn)]
            life.events = sorted(mine, key=lambda event: (event.run_id, _RANKS.get(event.event_type, len(_RANKS))))
        if chosen.alias_arns:
            lives.sort(key=lambda life: min(one.since for one in life.aliases if one.key_arn == life.key_arn))
        return Lives(resolve(runs), next(iter(chosen.alias_arns), None), lives)


_RANKS = {
    kind: rank
    for rank, kind in enumerate(("first_seen", "learned", "gap", "not_crawled", "policy_opened", "policy_changed"))
}


def _several(what: str, arns: Sequence[str]) -> str:
    return f"{what}: choose one by its ARN: {', '.join(map(printable, arns))}"


def _about(event: Event, key_arn: str) -> bool:
    return event.key_arn == key_arn or (
        event.event_type in {"rekeyed", "alias_moved"} and key_arn in {event.before, event.after}
    )


def _lives(duck: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> list[Life]:
    values = {"keys": list(keys)}
    periods = [Period(**row) for row in rows(duck, key_history_sql.PERIODS, values)]
    now = {
        row["key_arn"]: row for row in rows(duck, "SELECT * FROM keys WHERE key_arn IN (SELECT unnest($keys))", values)
    }
    lives = []
    for row in rows(duck, key_history_sql.KEYS, values):
        mine = {period.alias_arn for period in periods if period.key_arn == row["key_arn"]}
        aliases = [period for period in periods if period.alias_arn in mine]
        lives.append(Life(**row, aliases=aliases, now=now.get(row["key_arn"])))
    return lives


def _events(duck: duckdb.DuckDBPyConnection, runs: list[Moment], lives: Iterable[Life]) -> list[Event]:
    keys = {life.key_arn: life for life in lives}
    values = {"keys": list(keys)}
    at = {run.run_id: run.started_at for run in runs}
    pairs = Pairs(duck, list(keys))
    first = {row["key_arn"]: row["run_id"] for row in rows(duck, key_history_sql.FIRST_RUN, values)}
    changes = [Event(**row) for row in rows(duck, key_history_sql.CHANGES, values)]
    created = {event.key_arn: event for event in changes if event.event_type == "key_created"}
    events = pairs.attach(event for event in changes if not _first(event, first))
    for event in events:
        if event.event_type == "key_created":  # listed again
            event.details += _facts(duck, keys[event.key_arn or ""], event.run_id)
    for (run_id, key_arn), details in pairs.untold(events):
        sentence = f"Key {_label(keys[key_arn], run_id)} changed: {', '.join(detail.name for detail in details)}."
        events.append(_event(keys[key_arn], run_id, at, "metadata_changed", sentence, details=details))
    for key_arn, life in keys.items():
        sentence = f"Key {_label(life, first[key_arn])} in {_where(life)} was first seen."
        if _first(created.get(key_arn), first):
            sentence = created[key_arn].message
        pruned = next(run.status == PRUNED for run in runs if run.run_id == first[key_arn])
        facts = [] if pruned else _facts(duck, life, first[key_arn])
        sentence += " What was known of it then has been pruned." if pruned else ""
        events.append(_event(life, first[key_arn], at, "first_seen", sentence, details=facts))
    learned = _learned(duck, keys, first, at)
    events += learned.values()
    events += _rotations(duck, keys, first, at, learned)
    for row in rows(duck, key_history_sql.USES, values):
        life = keys[row.pop("key_arn")]
        if row["run_id"] == first[life.key_arn] and row["event_type"] != "use_ended":
            continue  # told with the key's first facts
        sentence = row.pop("message").replace("{key}", f"key {_label(life, row['run_id'])}")
        role = Detail("role", "stated", after=row.pop("role"))
        events.append(_event(life, row.pop("run_id"), at, row.pop("event_type"), sentence, details=[role], **row))
    for row in rows(duck, key_history_sql.REFUSED, values):
        life = keys[row["key_arn"]]
        start = max(row["since"], first[life.key_arn])
        if row["until"] is None or row["until"] > start:
            what = f"{', '.join(row['actions'])} could not be read: {row['reason']}."
            events.append(_lasting(life, "gap", (start, row["until"]), what, at))
    events += (event for life in keys.values() for event in _unread(duck, life, first[life.key_arn], runs))
    return events


def _first(event: Event | None, first: dict[str, int]) -> bool:
    """Whether this is a key's creation, which its first event stands for."""
    return event is not None and event.event_type == "key_created" and event.run_id == first[event.key_arn or ""]


def _facts(duck: duckdb.DuckDBPyConnection, life: Life, run_id: int, wanted: Iterable[str] = ()) -> list[Detail]:
    """What was known of the key after a run: all of it, or the sections wanted."""
    row = rows(duck, key_history_sql.FACTS, {"key": life.key_arn, "run": run_id})[0]
    sections: dict[str, list[Detail]] = {
        "metadata": [Detail(named(name), "stated", after=row[name]) for name in _FIRST if row[name] not in {None, ""}],
        "rotation": [],
        "policy": described(row["policy"]) if row["policy"] is not None else [],
        "grants": [
            Detail(f"grant for {grant['grantee']}", "stated", after=read("operations", grant["operations"]))
            for grant in row["grants"] or ()
        ],
    }
    if row["rotation"] is not None:
        every = "" if row["period_days"] is None else f", every {row['period_days']} days"
        told = f"{row['rotation'].replace('_', ' ')}{every}"
        sections["rotation"].append(Detail("rotation", "stated", after=told))
    for name in ("aliases", "tags", "rotated", "dependent_resources"):
        sections[name] = [Detail(named(name), "stated", after=row[name])] if row[name] else []
    order = ("metadata", "rotation", "rotated", "aliases", "tags", "dependent_resources", "policy", "grants")
    chosen = set(wanted) or set(order)
    return [detail for name in order if name in chosen for detail in sections[name]]


def _learned(
    duck: duckdb.DuckDBPyConnection, keys: dict[str, Life], first: dict[str, int], at: dict[int, dt.datetime]
) -> dict[tuple[int, str], Event]:
    """What could be read for the first time after it had been refused ever since the key was first seen."""
    found = {}
    for row in rows(duck, key_history_sql.LEARNED, {"keys": list(keys)}):
        life, run_id = keys[row["key_arn"]], row["run_id"]
        sections = [_SECTIONS[one] for one in row["operations"] if one in _SECTIONS]
        if row["since"] <= first[life.key_arn] and sections:
            sentence = f"{', '.join(row['actions'])} could be read for key {_label(life, run_id)} for the first time."
            details = _facts(duck, life, run_id, sections)
            found[run_id, life.key_arn] = _event(life, run_id, at, "learned", sentence, details=details)
    return found


def _rotations(
    duck: duckdb.DuckDBPyConnection,
    keys: dict[str, Life],
    first: dict[str, int],
    at: dict[int, dt.datetime],
    learned: dict[tuple[int, str], Event],
) -> list[Event]:
    """The rotations since; those that were there when the list could be read at first are told with it."""
    query = """
    SELECT key_arn, rotated_at, any_value(rotation_type) AS rotation_type, min(valid_from) AS run_id
    FROM internal.key_rotation_event WHERE key_arn IN (SELECT unnest($keys))
    GROUP BY key_arn, rotated_at ORDER BY rotated_at
    """
    found = []
    for row in rows(duck, query, {"keys": list(keys)}):
        life, run_id = keys[row["key_arn"]], row["run_id"]
        then = learned.get((run_id, life.key_arn))
        if run_id == first[life.key_arn] or (then and row["rotated_at"] in _listed(then)):
            continue
        details = [Detail("rotation", "stated", after=row["rotation_type"])] if row["rotation_type"] else []
        sentence = f"Key {_label(life, run_id)} was rotated on {stamp(row['rotated_at'])}."
        found.append(_event(life, run_id, at, "rotated", sentence, details=details))
    return found


def _unread(duck: duckdb.DuckDBPyConnection, life: Life, first: int, runs: list[Moment]) -> list[Event]:
    """The stretches of runs that read nothing of the key's account and region."""
    values = {"account": life.account_id, "region": life.region}
    outcomes = {row["run_id"]: row for row in rows(duck, key_history_sql.OUTCOMES, values)}
    at = {run.run_id: run.started_at for run in runs}
    stretches: list[tuple[int, int | None, str]] = []
    for run in runs:
        if run.run_id < first or not run.ended:
            continue
        row = outcomes.get(run.run_id)
        reason = None
        if row is None:
            reason = "it was not crawled"
        elif row["outcome"] not in {"complete", "partial"}:
            reason = row["reason"] or f"it is {row['outcome']}"
        if stretches and stretches[-1][1] is None and stretches[-1][2] != reason:
            stretches[-1] = (stretches[-1][0], run.run_id, stretches[-1][2])
        if reason is not None and not (stretches and stretches[-1][1] is None):
            stretches.append((run.run_id, None, reason))
    return [
        _lasting(life, "not_crawled", (since, until), f"nothing of the account and region was read: {reason}.", at)
        for since, until, reason in stretches
    ]


def _lasting(life: Life, kind: str, span: tuple[int, int | None], what: str, at: dict[int, dt.datetime]) -> Event:
    since, until = span
    told = "Since then " if until is None else f"From then until run {until} ({stamp(at[until])}) "
    return _event(life, since, at, kind, told + what, until_run=until)


def _event(life: Life, run_id: int, at: dict[int, dt.datetime], kind: str, sentence: str, **values: Any) -> Event:
    return Event(
        run_id,
        at[run_id],
        kind,
        sentence,
        account_id=life.account_id,
        account_name=life.account_name,
        region=life.region,
        key_arn=life.key_arn,
        **({"subject": _label(life, run_id)} | values),
    )


def _listed(event: Event) -> list[Any]:
    return [one for detail in event.details if detail.name == "rotated" for one in detail.after]


def _where(life: Life) -> str:
    """The place as the sentences of changes have it."""
    return (
        f"{life.account_name} ({life.account_id}, {life.region})"
        if life.account_name
        else f"{life.account_id}, {life.region}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _label(life: Life, run_id: int) -> str:
    """The key's first alias after a run, else its id."""
    names = (
        period.name
        for period in life.aliases
        if period.key_arn == life.key_arn and period.since <= run_id and (period.until is None or period.until > run_id)
    )
    return min(names, default=life.key_id)
