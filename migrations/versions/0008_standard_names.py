"""Rename tables, columns and values to standard names; every row is kept.

The content hash of a version covers the renamed values, so it is recomputed: an unchanged fact remains one version.

Revision: 0008
After: 0007
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

from migrations.schema import FACT_TABLES

revision = "0008"
down_revision = "0007"

_TABLES = {
    "access_hygiene": "policy_lint",
    "access_state": "analysis_watermark",
    "iam_listing": "iam_scan",
    "key_last_use_asked": "key_last_use_poll",
    "key_usage": "resource_key",
    "scope_run": "scope_coverage",
    "trail_listing": "trail_scan",
    "trail_shadow": "shadow_trail",
}
_VERSIONED = sorted(_TABLES.get(name, name) for name in FACT_TABLES)
_LINT = {"n": "ordinal", "via": "source_id", "position": "statement_index", "sentence": "message"}
_COLUMNS: dict[str, dict[str, str]] = {
    "access_policy": {"looks": "context_inputs", "denies": "deny_scope"},
    "access_verdict": {**_LINT, "scope": "conditions"},
    "crawl_lock": {"since": "acquired_at"},
    "finding": {"verdict": "unwaived_status"},
    "key_last_use_poll": {"asked_at": "polled_at"},
    "key_reference": {"form": "format", "raw": "raw_value", "stated_class": "declared_class"},
    "policy_lint": _LINT,
    "resource": {"listed_in": "listing_region"},
}
_CAUSES = {"refused": "rejected", "malformed": "invalid_response", "not_asked": "disabled_by_config"}
_ROTATION = {"on": "enabled", "off": "disabled"}
_WATERMARKS = {"estate": "organization", "made": "rebuilt"}
_REPORTS = {"estate": "overview"}
_BATCH = 10_000


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, names in _columns().items():
        for old, new in names.items():
            _rename_column(table, old, new)
    _rename_indexes(_TABLES, _COLUMNS)
    _change_values(_ROTATION, _CAUSES, _WATERMARKS, _REPORTS, ("estate", "organization"))


def downgrade() -> None:
    back = {new: old for old, new in _TABLES.items()}
    _change_values(
        _turned(_ROTATION), _turned(_CAUSES), _turned(_WATERMARKS), _turned(_REPORTS), ("organization", "estate")
    )
    for table, names in _columns().items():
        for old, new in names.items():
            _rename_column(table, new, old)
    for old, new in back.items():
        op.rename_table(old, new)
    _rename_indexes(back, {back.get(table, table): _turned(names) for table, names in _COLUMNS.items()})


def _columns() -> dict[str, dict[str, str]]:
    return {table: _COLUMNS.get(table, {}) for table in _COLUMNS} | {
        table: {**_COLUMNS.get(table, {}), "content": "content_hash"} for table in _VERSIONED
    }


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def _postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _rename_column(table: str, old: str, new: str) -> None:
    # Alembic would copy the table on SQLite, which renames columns in place since 3.25, as PostgreSQL does.
    op.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{old}" TO "{new}"')


def _rename_indexes(tables: Mapping[str, str], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Rename indexes, keys and sequences, which are named after their table and columns."""
    connection = op.get_bind()
    for table in sorted({*tables.values(), *columns}):
        before = next((old for old, new in tables.items() if new == table), table)

        def renamed(name: str, table: str = table, before: str = before) -> str:
            start, _, rest = name.partition(f"_{before}")
            if not _:
                return name
            for old, new in columns.get(table, {}).items():
                rest = rest.replace(f"_{old}", f"_{new}")
            return f"{start}_{table}{rest}" if start else f"{table}{rest}"

        if _postgresql():
            _rename_on_postgresql(connection, table, before, renamed)
        else:
            rows = connection.execute(
                sa.text(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :table AND sql IS NOT NULL"
                ),
                {"table": table},
            ).all()
            for name, sql in rows:
                if renamed(name) != name:
                    connection.exec_driver_sql(f'DROP INDEX "{name}"')
                    connection.exec_driver_sql(sql.replace(name, renamed(name), 1))


def _rename_on_postgresql(connection: sa.Connection, table: str, before: str, renamed: Any) -> None:
    names = connection.execute(
        sa.text(
            "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            "WHERE x.indrelid = CAST(CAST(:table AS text) AS regclass)"
        ),
        {"table": table},
    ).scalars()
    for name in list(names):
        if renamed(name) != name:
            connection.exec_driver_sql(f'ALTER INDEX "{name}" RENAME TO "{renamed(name)}"')
    foreign = connection.execute(
        sa.text(
            "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = CAST(CAST(:table AS text) AS regclass)"
        ),
        {"table": table},
    ).scalars()
    for name in list(foreign):
        if renamed(name) != name:
            connection.exec_driver_sql(f'ALTER TABLE "{table}" RENAME CONSTRAINT "{name}" TO "{renamed(name)}"')
    if before != table:
        connection.exec_driver_sql(
            f'ALTER SEQUENCE IF EXISTS "{before}_version_id_seq" RENAME TO "{table}_version_id_seq"'
        )


def _change_values(
    rotation: Mapping[str, str],
    causes: Mapping[str, str],
    watermarks: Mapping[str, str],
    reports: Mapping[str, str],
    input_name: tuple[str, str],
) -> None:
    connection = op.get_bind()
    hash_column = "content_hash"
    times = {"next_rotation_at", "on_demand_started_at"}
    hashed = {
        "key_rotation": ("status", ("status", "period_days", "next_rotation_at", "on_demand_started_at"), rotation),
        "gap": ("cause", ("action", "cause", "code"), causes),
        "key_last_use_gap": ("cause", ("action", "cause", "code"), causes),
    }
    for name, (column, content, values) in hashed.items():
        types: dict[str, Any] = {each: sa.DateTime(timezone=True) if each in times else sa.Text() for each in content}
        if "period_days" in types:
            types["period_days"] = sa.Integer()
        table = sa.table(
            name,
            sa.column("version_id", sa.Integer),
            sa.column(hash_column, sa.LargeBinary),
            *(sa.column(each, kind) for each, kind in types.items()),
        )
        change = (
            sa.update(table)
            .where(table.c.version_id == sa.bindparam("row"))
            .values({column: sa.bindparam("value"), hash_column: sa.bindparam("digest")})
        )
        for rows in _rows(connection, table, content, column, tuple(values)):
            changed = []
            for row in rows:
                fact = dict(zip(content, row[1:], strict=True))
                fact[column] = values[fact[column]]
                digest = _content_hash([_utc(fact[each]) for each in content])
                changed.append({"row": row[0], "value": fact[column], "digest": digest})
            connection.execute(change, changed)
    for name, column, values in (("analysis_watermark", "name", watermarks), ("delivery", "report", reports)):
        table = sa.table(name, sa.column(column, sa.Text))
        for old, new in values.items():
            connection.execute(sa.update(table).where(table.c[column] == old).values({column: new}))
    inputs = sa.table("access_policy", sa.column("context_inputs", sa.Text))
    connection.execute(sa.update(inputs).values(context_inputs=sa.func.replace(inputs.c.context_inputs, *input_name)))


def _rows(
    connection: sa.Connection, table: Any, content: tuple[str, ...], column: str, values: tuple[str, ...]
) -> Iterator[list[Any]]:
    """Yield the rows with one of the values, in batches in the order of their IDs."""
    last = -1
    while True:
        query = (
            sa.select(table.c.version_id, *(table.c[each] for each in content))
            .where(table.c[column].in_(values), table.c.version_id > last)
            .order_by(table.c.version_id)
            .limit(_BATCH)
        )
        rows = list(connection.execute(query))
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _utc(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    return value


def _content_hash(values: list[Any]) -> bytes:
    encoded = orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(encoded, digest_size=16).digest()
