"""The net differences between two runs, in the words of the changes from night to night.

The history is collapsed to the two runs, and the same SQL that finds the changes of a night runs over it: what both knew
alike is left out, what only the first knew ends at the second, what only the second knows begins there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from models.tables import versioned_tables
from models.versioned import VersionedTable
from reports.answers import identifier_lookup
from reports.answers.run_gaps import Unknown, unknown
from reports.answers.version_diff import Pairs, rows
from reports.mart import as_of_connection, change_log
from reports.mart.as_of import Moment, before, moments, resolve, stamp
from reports.mart.change_event import Detail, Event, moment, place
from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

FORMAT = "kmsledger.diff/1"
_WHOLE = frozenset({"key", "alias", "account", "resource"})
"""Facets whose unchanged facts are needed too, for names and places."""
_ONCE = {"key": "key_arn", "account": "account_id", "resource": "resource_arn"}
"""Facets of which it matters that they were known before the first moment, though not then."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two runs. Without `start` there is only one run so far, and nothing to compare it with."""

    start: Moment | None
    end: Moment
    events: list[Event]
    unknown: list[Unknown]
    chosen: dict[str, Any]
    """What it was narrowed to: key_arns and account_ids, None where it was not."""

    def plain(self) -> dict[str, Any]:
        """For JSON; `kmsledger diff --help` and the README describe it."""
        return {
            "format": FORMAT,
            "from": None if self.start is None else moment(self.start),
            "to": moment(self.end),
            "only": self.chosen,
            "differences": [event.plain() for event in self.events],
            "not_known": [one.plain() for one in self.unknown],
        }

    def lines(self) -> list[str]:
        """For people: by account and region, then by key, the sentence and below it the details."""
        if self.start is None:
            return [f"{_capital(str(self.end))} is the first one: there is nothing to compare it with yet."]
        found = [f"From {self.start} to {self.end}:"]
        for (account, _, region), together in groupby(self.events, _place):
            of_place = list(together)
            found += ["", printable(place(account, of_place[0].account_name, region or None))]
            for key, events in groupby(of_place, lambda event: event.key_arn or ""):
                if key:
                    found.append(printable(f"  {key}"))
                for event in events:
                    found += event.lines("    " if key else "  ")
        count = len(self.events)
        found += ["", f"{count:,} difference{'' if count == 1 else 's'}." if count else "No differences."]
        if self.unknown:
            found += ["", "Not known, and therefore taken as it was last known:"]
            for one in self.unknown:
                found += one.lines("  ")
        return found


def diff(
    path: Path, start: str | None = None, end: str | None = None, *, key: str | None = None, account: str | None = None
) -> Difference:
    """Compare two runs of the mart's ledger; by default the last that ended with the one before it.

    ``key`` is a key ARN, key id or alias, ``account`` an id or a name. Raises MartError, or QueryError for what cannot be
    meant (unknown names, a moment before the first run, moments in the wrong order).
    """
    duck = as_of_connection.opened(path)
    with duck:
        runs = moments(duck)
        last = resolve(runs, end)
        first = before(runs, last) if start is None else resolve(runs, start)
        if first is not None and first.run_id > last.run_id:
            raise QueryError(f"{first} is later than {last}: give the earlier one to --from and the later one to --to")
        accounts = None if account is None else identifier_lookup.accounts(duck, account)
        keys = None if key is None else _keys(duck, key, accounts, (first or last, last))
        chosen = {"key_arns": None if keys is None else list(keys), "account_ids": accounts and list(accounts)}
        if first is None:
            return Difference(None, last, [], [], chosen)
        missing = unknown(duck, first, last, keys, accounts)
        if first.run_id == last.run_id:
            return Difference(first, last, [], missing, chosen)
        collapse(duck, first.run_id, last.run_id)
        change_log.create(duck)
        events = [event for event in _events(duck, first, last, keys) if _wanted(event, keys, accounts)]
        return Difference(first, last, sorted(events, key=_order), missing, chosen)


def collapse(duck: duckdb.DuckDBPyConnection, start: int, end: int) -> None:
    """Fill and use catalog ``mart`` with the two runs alone, from catalog ``whole``."""
    selects = {name: _collapsed(model, start, end) for name, model in versioned_tables().items() if name != "gap"}
    source = f"{as_of_connection.WHOLE}.internal"
    selects["run"] = f"SELECT * FROM {source}.run WHERE run_id IN ({start:d}, {end:d})"
    # When a place was crawled for the first time, as far as the two runs go.
    selects["scope_coverage"] = f"""
        SELECT account_id, region, CASE WHEN min(run_id) <= {start:d} THEN {start:d} ELSE {end:d} END AS run_id,
          'complete' AS outcome
        FROM {source}.scope_coverage WHERE run_id <= {end:d} AND outcome IN ('complete', 'partial')
        GROUP BY account_id, region
        """
    selects["gap"] = _learned(start, end)
    for table in ("policy_document", "policy", "policy_statement", "policy_principal", "principal", "party", "cause"):
        selects[table] = f"SELECT * FROM {source}.{table}"
    as_of_connection.ledger(duck, selects, tables=True)


def _collapsed(model: type[VersionedTable], start: int, end: int) -> str:
    name = model.table().name
    values = ", ".join(f'"{column}"' for column in model.value_columns())
    source = f'{as_of_connection.WHOLE}.internal."{name}"'
    old = (
        f"SELECT {values} FROM {source} WHERE valid_from <= {start:d} AND valid_to > {start:d} AND valid_to <= {end:d}"
    )
    new = (
        f"SELECT {values} FROM {source} WHERE valid_from > {start:d} AND valid_from <= {end:d} "
        f"AND (valid_to IS NULL OR valid_to > {end:d})"
    )
    parts = [
        f"SELECT *, {start:d} AS valid_from, CAST({end:d} AS INTEGER) AS valid_to FROM (({old}) EXCEPT ({new}))",
        f"SELECT *, {end:d}, NULL FROM (({new}) EXCEPT ({old}))",
    ]
    if name in _WHOLE:
        parts += [
            (
                f"SELECT {values}, {start:d}, NULL FROM {source} WHERE valid_from <= {start:d} "
                f"AND (valid_to IS NULL OR valid_to > {end:d})"
            ),
            f"SELECT *, {start:d}, NULL FROM (({old}) INTERSECT ({new}))",
        ]
    if own := _ONCE.get(name):
        parts.append(
            f"SELECT {values}, {start:d}, {start:d} FROM {source} b WHERE valid_to <= {start:d} AND NOT EXISTS ("
            f"FROM {source} o WHERE o.{own} = b.{own} AND o.valid_from <= {start:d} "
            f"AND (o.valid_to IS NULL OR o.valid_to > {start:d}))"
        )
    return "\nUNION ALL ".join(parts)


def _learned(start: int, end: int) -> str:
    """Refusals since the very first, that were over between the two runs: then the first answers are no additions."""
    source = f"{as_of_connection.WHOLE}.internal"
    return f"""
    WITH denied_actions AS (
      SELECT account_id, region, service, operation, subject, min(valid_from) AS since,
        CASE WHEN bool_and(valid_to IS NOT NULL) THEN max(valid_to) END AS until
      FROM (
        SELECT *, count(*) FILTER (valid_from IS DISTINCT FROM before)
          OVER (PARTITION BY account_id, region, service, operation, subject ORDER BY valid_from) AS refusal
        FROM (
          SELECT *, lag(valid_to)
            OVER (PARTITION BY account_id, region, service, operation, subject ORDER BY valid_from) AS before
          FROM {source}.gap
        )
      )
      GROUP BY account_id, region, service, operation, subject, refusal
    ), first_seen AS (
      SELECT key_arn AS subject, min(valid_from) AS run_id FROM {source}.key GROUP BY key_arn
    ), first_crawl AS (
      SELECT account_id, region, min(run_id) AS run_id FROM {source}.scope_coverage
      WHERE outcome IN ('complete', 'partial')
      GROUP BY account_id, region
    )
    SELECT r.account_id, r.region, r.service, r.operation, r.subject, {start:d} AS valid_from, {end:d} AS valid_to
    FROM denied_actions r
    LEFT JOIN first_seen k ON k.subject = r.subject
    LEFT JOIN first_crawl c ON c.account_id = r.account_id AND c.region = r.region
    WHERE r.until > {start:d} AND r.until <= {end:d}
      AND r.since <= CASE WHEN r.subject = '' THEN c.run_id ELSE k.run_id END
    """


def _keys(
    duck: duckdb.DuckDBPyConnection, text: str, accounts: tuple[str, ...] | None, ends: tuple[Moment, Moment]
) -> tuple[str, ...]:
    """The keys meant; for an alias those that it points at in one of the two runs, else those it ever pointed at."""
    chosen = identifier_lookup.keys(duck, text, accounts)
    if not chosen.alias_arns:
        return chosen.key_arns
    found = duck.execute(
        "SELECT DISTINCT target_key_arn FROM internal.alias a WHERE alias_arn IN (SELECT unnest($aliases)) "
        "AND target_key_arn IS NOT NULL AND (internal.known(a.valid_from, a.valid_to, $start) "
        "OR internal.known(a.valid_from, a.valid_to, $end)) ORDER BY 1",
        {"aliases": list(chosen.alias_arns), "start": ends[0].run_id, "end": ends[1].run_id},
    ).fetchall()
    return tuple(arn for (arn,) in found) or chosen.key_arns


def _events(duck: duckdb.DuckDBPyConnection, start: Moment, end: Moment, keys: Sequence[str] | None) -> list[Event]:
    pairs = Pairs(duck, keys)
    told = [Event(**row) for row in rows(duck, "SELECT * FROM internal.change")]
    used = _used(duck)
    for event in told:
        if event.resource_arn and event.event_type in {"resource_created", "resource_gone", "rekeyed"}:
            _with_keys(event, used.get((event.event_type != "resource_gone", event.resource_arn), []))
    told = pairs.attach(told)
    places = {row["key_arn"]: row for row in rows(duck, _PLACES)}
    for (run_id, key_arn), details in pairs.untold(told):
        row = places[key_arn]
        sentence = f"Key {row['subject']} changed: {', '.join(detail.name for detail in details)}."
        told.append(Event(run_id, end.started_at, "metadata_changed", sentence, details=details, **row))
    rotated = (
        "SELECT * FROM internal.key_rotation_event WHERE valid_to IS NULL AND rotated_at > $since ORDER BY rotated_at"
    )
    for found in rows(duck, rotated, {"since": start.started_at}):
        row = places[found["key_arn"]]
        sentence = f"Key {row['subject']} was rotated on {stamp(found['rotated_at'])}."
        details = [Detail("rotation", "stated", after=found["rotation_type"])] if found["rotation_type"] else []
        told.append(Event(end.run_id, end.started_at, "rotated", sentence, details=details, **row))
    return told


_PLACES = """
SELECT k.key_arn, k.account_id, c.name AS account_name, k.region, coalesce(a.name, k.key_id) AS subject
FROM (SELECT key_arn, any_value(key_id) AS key_id, any_value(account_id) AS account_id, any_value(region) AS region
  FROM internal.key WHERE key_arn IN (SELECT key_arn FROM internal.key_metadata UNION SELECT key_arn FROM internal.key_rotation_event)
  GROUP BY key_arn) k
LEFT JOIN internal.account c ON c.account_id = k.account_id AND c.valid_to IS NULL
LEFT JOIN (SELECT target_key_arn, min(alias_name) AS name FROM internal.alias WHERE valid_to IS NULL GROUP BY target_key_arn) a
  ON a.target_key_arn = k.key_arn
"""


def _used(duck: duckdb.DuckDBPyConnection) -> dict[tuple[bool, str], list[dict[str, Any]]]:
    """The keys that resources used, by whether that is so at the end, and resource; as far as it changed."""
    query = """
    SELECT u.valid_to IS NULL AS now, u.resource_arn, u.role, u.key_arn, u.key_class FROM internal.resource_key u
    ORDER BY u.resource_arn, u.role, u.position
    """
    found: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for row in rows(duck, query):
        found.setdefault((row["now"], row["resource_arn"]), []).append(row)
    return found


def _with_keys(event: Event, used: list[dict[str, Any]]) -> None:
    if event.event_type == "rekeyed":
        roles = [row["role"] for row in used if (row["key_arn"] or row["key_class"]) == event.after]
        event.details += [Detail("role", "stated", after=role) for role in dict.fromkeys(roles)]
        return
    event.key_arn = next((row["key_arn"] for row in used if row["key_arn"]), None)
    event.details += [
        Detail(f"key for {row['role']}", "stated", after=row["key_arn"] or row["key_class"]) for row in used
    ]


def _wanted(event: Event, keys: Sequence[str] | None, accounts: Sequence[str] | None) -> bool:
    if accounts is not None and event.account_id not in accounts:
        return False
    if keys is None:
        return True
    meant = {event.key_arn}
    if event.event_type in {"rekeyed", "alias_moved"}:
        meant |= {event.before, event.after}
    if event.event_type in {"resource_created", "resource_gone"}:
        meant |= {detail.after for detail in event.details}
    return not meant.isdisjoint(keys)


_RANKS = {kind: rank for rank, kind in enumerate(("account_joined", "key_created", "policy_opened", "policy_changed"))}


def _order(event: Event) -> tuple[Any, ...]:
    return (
        *_place(event),
        event.key_arn or "",
        _RANKS.get(event.event_type, len(_RANKS)),
        event.event_type,
        event.message,
    )


def _place(event: Event) -> tuple[str, str, str]:
    return (event.account_id or "", event.account_name or "", event.region or "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
