"""The net differences between two runs, as change events.

The history is collapsed to the two runs, and the SQL that computes the changes of a run runs over it: facts that are equal in
both runs are omitted, facts of the first run alone end at the second, and facts of the second run alone begin there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from models.safe_text import printable
from models.tables import versioned_tables
from models.versioned import VersionedTable
from reports.answers import identifier_lookup
from reports.answers.change_event import Detail, Event, format_account_region, rank
from reports.answers.run_gaps import RunGap, find_run_gaps
from reports.answers.text import counted
from reports.answers.version_diff import VersionDiffs
from reports.connections import new_cursor
from reports.mart import as_of_connection, change_log
from reports.mart.as_of import RunRef, before, moments, resolve_as_of, stamp
from reports.mart.connection import CATALOG
from reports.mart.errors import QueryError
from reports.mart.rows import rows

FORMAT = "kmsledger.diff/1"
_WITH_UNCHANGED = frozenset({"key", "alias", "account", "resource"})
"""Fact tables whose unchanged facts are needed too, for names and account-regions."""
_FIRST = ("account_joined", "key_created", "policy_opened", "policy_changed")
"""The order of a key's events by type, before all other types."""
_POLICY_TABLES = ("policy", "policy_statement", "policy_principal")
_WITH_EARLIER = {"key": "key_arn", "account": "account_id", "resource": "resource_arn"}
"""Fact tables from which facts that ended before the first run are needed too, because they are not new in the second run."""


@dataclass(frozen=True, slots=True)
class RunDiff:
    """The differences between two runs. Without ``start``, the mart has only one run and nothing to compare it with."""

    start: RunRef | None
    end: RunRef
    events: list[Event]
    gaps: list[RunGap]
    filters: dict[str, Any]
    """key_arns and account_ids, each None if there is no such filter."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger diff --help` describes."""
        return {
            "format": FORMAT,
            "from": self.start,
            "to": self.end,
            "filters": self.filters,
            "differences": self.events,
            "unknown": self.gaps,
        }

    def to_text(self) -> str:
        """Text for a terminal: by account and region, then by key, each message with its details below."""
        if self.start is None:
            text = f"{self.end} is the first run: there is no earlier run to compare it with."
            return text.replace("run", "Run", 1)
        lines = [f"From {self.start} to {self.end}:"]
        for (account, account_name, region), group in groupby(self.events, _account_region):
            lines += ["", printable(format_account_region(account, account_name or None, region or None))]
            for key, events in groupby(group, lambda event: event.key_arn or ""):
                if key:
                    lines.append(printable(f"  {key}"))
                for event in events:
                    lines += event.text_lines("    " if key else "  ")
        lines += ["", f"{counted(len(self.events), 'difference')}." if self.events else "No differences."]
        if self.gaps:
            lines += ["", "Unknown; the last known state was used:", *(gap.text_line("  ") for gap in self.gaps)]
        return "\n".join(lines)


def diff(
    path: Path, start: str | None = None, end: str | None = None, *, key: str | None = None, account: str | None = None
) -> RunDiff:
    """The differences between two runs of a mart; by default the last finished run and the one before it.

    ``key`` is a key ARN, key ID or alias, ``account`` an ID or a name. Raises MartError, or QueryError for unknown names, a
    date before the first run, and runs in the wrong order.
    """
    with as_of_connection.opened(path) as duck:
        runs = moments(duck)
        last = resolve_as_of(runs, end)
        first = before(runs, last) if start is None else resolve_as_of(runs, start)
        if first is not None and first.run_id > last.run_id:
            raise QueryError(f"{first} is later than {last}: pass the earlier run to --from and the later run to --to")
        accounts = None if account is None else identifier_lookup.find_accounts(duck, account)
        keys = None if key is None else _keys(duck, key, accounts, (first or last, last))
        filters = {"key_arns": keys and list(keys), "account_ids": accounts and list(accounts)}
        if first is None:
            return RunDiff(None, last, [], [], filters)
        gaps = find_run_gaps(duck, first, last, keys, accounts)
        if first.run_id == last.run_id:
            return RunDiff(first, last, [], gaps, filters)
        collapse(duck, first.run_id, last.run_id)
        change_log.create(duck)
        events = [event for event in _events(duck, first, last, keys) if _matches_filters(event, keys, accounts)]
        return RunDiff(first, last, sorted(events, key=_order), gaps, filters)


def collapse(duck: duckdb.DuckDBPyConnection, start: int, end: int) -> None:
    """Fill catalog ``mart`` with the facts of the two runs from catalog ``whole``, and use it."""
    selects = {name: _collapsed(model, start, end) for name, model in versioned_tables().items() if name != "gap"}
    source = f"{as_of_connection.WHOLE}.internal"
    selects["run"] = f"SELECT * FROM {source}.run WHERE run_id IN ({start:d}, {end:d})"
    # The run that crawled an account-region first; runs before the first of the two count as that run.
    selects["scope_coverage"] = f"""
        SELECT account_id, region, CASE WHEN min(run_id) <= {start:d} THEN {start:d} ELSE {end:d} END AS run_id,
          'complete' AS outcome, CAST(NULL AS INTEGER) AS read_run_id
        FROM {source}.scope_coverage WHERE run_id <= {end:d} AND outcome IN ('complete', 'partial')
        GROUP BY account_id, region
        """
    for table in ("principal_dim", "known_party", "gap_cause", "policy_document", *_POLICY_TABLES):
        selects[table] = f"SELECT * FROM {source}.{table}"
    as_of_connection.ledger(duck, selects, tables=True)
    _store_former_gaps(duck, start, end)


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
    if name in _WITH_UNCHANGED:
        parts += [
            (
                f"SELECT {values}, {start:d}, NULL FROM {source} WHERE valid_from <= {start:d} "
                f"AND (valid_to IS NULL OR valid_to > {end:d})"
            ),
            f"SELECT *, {start:d}, NULL FROM (({old}) INTERSECT ({new}))",
        ]
    if own := _WITH_EARLIER.get(name):
        parts.append(
            f"SELECT {values}, {start:d}, {start:d} FROM {source} b WHERE valid_to <= {start:d} AND NOT EXISTS ("
            f"FROM {source} o WHERE o.{own} = b.{own} AND o.valid_from <= {start:d} "
            f"AND (o.valid_to IS NULL OR o.valid_to > {start:d}))"
        )
    return "\nUNION ALL ".join(parts)


def _store_former_gaps(duck: duckdb.DuckDBPyConnection, start: int, end: int) -> None:
    """Store the gaps that lasted from the first crawl until a run between the two: the facts read then are not additions."""
    with new_cursor(duck) as cursor:
        cursor.execute(f"USE {as_of_connection.WHOLE}")
        change_log.find_first_reads(cursor)
        cursor.execute(f"""
            CREATE TABLE {CATALOG}.internal.gap AS
            SELECT *, NULL AS service, {start:d} AS valid_from, {end:d} AS valid_to
            FROM (
              SELECT account_id, region, operation, '' AS subject, run_id FROM first_listed
              UNION ALL BY NAME SELECT operation, arn AS subject, run_id FROM first_read
            )
            WHERE run_id > {start:d} AND run_id <= {end:d}
            """)


def _keys(
    duck: duckdb.DuckDBPyConnection, text: str, accounts: tuple[str, ...] | None, ends: tuple[RunRef, RunRef]
) -> tuple[str, ...]:
    """The keys that match; for an alias, its targets in either run, or else all its former targets."""
    match = identifier_lookup.find_keys(duck, text, accounts)
    if not match.alias_arns:
        return match.key_arns
    targets = duck.execute(
        "SELECT DISTINCT target_key_arn FROM internal.alias a WHERE alias_arn IN (SELECT unnest($aliases)) "
        "AND target_key_arn IS NOT NULL AND (internal.known(a.valid_from, a.valid_to, $start) "
        "OR internal.known(a.valid_from, a.valid_to, $end)) ORDER BY 1",
        {"aliases": list(match.alias_arns), "start": ends[0].run_id, "end": ends[1].run_id},
    ).fetchall()
    return tuple(arn for (arn,) in targets) or match.key_arns


def _events(duck: duckdb.DuckDBPyConnection, start: RunRef, end: RunRef, keys: Sequence[str] | None) -> list[Event]:
    diffs = VersionDiffs(duck, keys)
    events = [Event(**row) for row in rows(duck, "SELECT * FROM internal.change")]
    usage = _resource_keys(duck)
    for event in events:
        if event.resource_arn and event.event_type in {"resource_created", "resource_gone", "rekeyed"}:
            _add_keys(event, usage.get((event.event_type != "resource_gone", event.resource_arn), []))
    events = diffs.add_details(events)
    at_end = {"run_id": end.run_id, "occurred_at": end.started_at}
    keys_at_end = {row["key_arn"]: row | at_end for row in rows(duck, _KEYS)}
    for (_, key_arn), details in diffs.unreported(events):
        row = keys_at_end[key_arn]
        message = f"Key {row['subject']} changed: {', '.join(detail.name for detail in details)}."
        events.append(Event(event_type="metadata_changed", message=message, details=details, **row))
    rotations = (
        "SELECT * FROM internal.key_rotation_event WHERE valid_to IS NULL AND rotated_at > $since ORDER BY rotated_at"
    )
    for rotation in rows(duck, rotations, {"since": start.started_at}):
        row = keys_at_end[rotation["key_arn"]]
        message = f"Key {row['subject']} was rotated on {stamp(rotation['rotated_at'])}."
        details = [Detail("rotation", "stated", after=rotation["rotation_type"])] if rotation["rotation_type"] else []
        events.append(Event(event_type="rotated", message=message, details=details, **row))
    return events


_KEYS = """
SELECT k.key_arn, k.account_id, c.name AS account_name, k.region, coalesce(a.name, k.key_id) AS subject
FROM (SELECT key_arn, any_value(key_id) AS key_id, any_value(account_id) AS account_id, any_value(region) AS region
  FROM internal.key
  WHERE key_arn IN (SELECT key_arn FROM internal.key_metadata UNION SELECT key_arn FROM internal.key_rotation_event)
  GROUP BY key_arn) k
LEFT JOIN internal.account c ON c.account_id = k.account_id AND c.valid_to IS NULL
LEFT JOIN (SELECT target_key_arn, min(alias_name) AS name FROM internal.alias WHERE valid_to IS NULL GROUP BY target_key_arn) a
  ON a.target_key_arn = k.key_arn
"""


def _resource_keys(duck: duckdb.DuckDBPyConnection) -> dict[tuple[bool, str], list[dict[str, Any]]]:
    """The changed uses of keys, by whether they exist in the second run, and resource."""
    query = """
    SELECT u.valid_to IS NULL AS current, u.resource_arn, u.role, u.key_arn, u.key_class FROM internal.resource_key u
    ORDER BY u.resource_arn, u.role, u.position
    """
    usage: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for row in rows(duck, query):
        usage.setdefault((row["current"], row["resource_arn"]), []).append(row)
    return usage


def _add_keys(event: Event, usage: list[dict[str, Any]]) -> None:
    if event.event_type == "rekeyed":
        roles = [row["role"] for row in usage if (row["key_arn"] or row["key_class"]) == event.after]
        event.details += [Detail("role", "stated", after=role) for role in dict.fromkeys(roles)]
        return
    event.key_arn = next((row["key_arn"] for row in usage if row["key_arn"]), None)
    event.details += [
        Detail(f"key for {row['role']}", "stated", after=row["key_arn"] or row["key_class"]) for row in usage
    ]


def _matches_filters(event: Event, keys: Sequence[str] | None, accounts: Sequence[str] | None) -> bool:
    if accounts is not None and event.account_id not in accounts:
        return False
    if keys is None:
        return True
    event_keys = {event.key_arn}
    if event.event_type in {"rekeyed", "alias_moved"}:
        event_keys |= {event.before, event.after}
    if event.event_type in {"resource_created", "resource_gone"}:
        event_keys |= {detail.after for detail in event.details}
    return not event_keys.isdisjoint(keys)


def _order(event: Event) -> tuple[Any, ...]:
    place = (*_account_region(event), event.key_arn or "")
    return (*place, rank(event.event_type, _FIRST), event.event_type, event.message)


def _account_region(event: Event) -> tuple[str, str, str]:
    return (event.account_id or "", event.account_name or "", event.region or "")
