"""The polling queue for kms:GetKeyLastUsage: keys never polled come first, then those polled longest ago."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from models.tables.keys import Key, KeyLastUsePoll, KeyMetadata

_POLLS, _KEY, _METADATA = KeyLastUsePoll.table(), Key.table(), KeyMetadata.table()
_ROWS_PER_STATEMENT = 150
"""Each row has five parameters, and old versions of SQLite accept 999."""


@dataclass(frozen=True, slots=True)
class LastUsePoll:
    """One poll of the last use of a key, successful or denied; ``polled_at`` is timezone-aware."""

    key_arn: str
    account_id: str
    region: str
    polled_at: dt.datetime


@dataclass(frozen=True, slots=True)
class DueKey:
    """A key to poll; ``polled_at`` is the time of its last poll, ``None`` if there was none."""

    key_arn: str
    polled_at: dt.datetime | None


def record_polls(connection: Connection, run_id: int, rows: Iterable[LastUsePoll]) -> None:
    """Store the time of the last poll of each key, within the transaction of the caller."""
    values = {row.key_arn: {**asdict(row), "run_id": run_id} for row in rows}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    latest = [row for _, row in sorted(values.items())]
    for start in range(0, len(latest), _ROWS_PER_STATEMENT):
        statement = dialect.insert(_POLLS).values(latest[start : start + _ROWS_PER_STATEMENT])
        connection.execute(statement.on_conflict_do_update(index_elements=["key_arn"], set_=statement.excluded))


def count_polled(connection: Connection, *, run_id: int, account_id: str, region: str) -> int:
    """The number of keys of an account and region that this run has polled so far."""
    in_scope = and_(_POLLS.c.account_id == account_id, _POLLS.c.region == region, _POLLS.c.run_id == run_id)
    return connection.execute(select(func.count()).select_from(_POLLS).where(in_scope)).scalar_one()


def next_due(
    connection: Connection, *, account_id: str, region: str, before: dt.datetime, after: DueKey | None, limit: int
) -> Sequence[DueKey]:
    """The keys of an account and region to poll next: customer managed keys, and keys whose manager is unknown.

    Keys never polled come first, then keys last polled ``before`` a time, the oldest poll first. ``after`` is the last key
    of the previous page.
    """
    keys: list[DueKey] = []
    if after is None or after.polled_at is None:
        never = _keys(account_id, region).where(_POLLS.c.polled_at.is_(None))
        if after is not None:
            never = never.where(_KEY.c.key_arn > after.key_arn)
        keys += _read(connection, never.order_by(_KEY.c.key_arn), limit)
    if len(keys) < limit:
        stale = _keys(account_id, region).where(_POLLS.c.polled_at < before)
        if after is not None and after.polled_at is not None:
            same = and_(_POLLS.c.polled_at == after.polled_at, _KEY.c.key_arn > after.key_arn)
            stale = stale.where(or_(_POLLS.c.polled_at > after.polled_at, same))
        keys += _read(connection, stale.order_by(_POLLS.c.polled_at, _KEY.c.key_arn), limit - len(keys))
    return keys


def _keys(account_id: str, region: str) -> Select[Any]:
    described = and_(_METADATA.c.key_arn == _KEY.c.key_arn, _METADATA.c.valid_to.is_(None))
    return (
        select(_KEY.c.key_arn, _POLLS.c.polled_at)
        .select_from(_KEY)
        .outerjoin(_METADATA, described)
        .outerjoin(_POLLS, _POLLS.c.key_arn == _KEY.c.key_arn)
        .where(
            _KEY.c.account_id == account_id,
            _KEY.c.region == region,
            _KEY.c.valid_to.is_(None),
            or_(_METADATA.c.manager.is_(None), _METADATA.c.manager == "CUSTOMER"),
        )
    )


def _read(connection: Connection, query: Select[Any], limit: int) -> list[DueKey]:
    return [DueKey(key_arn, polled_at) for key_arn, polled_at in connection.execute(query.limit(limit))]
