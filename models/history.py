"""One merge for every facet: stage what was seen, then insert new, close changed, close absent-and-proved.

Set-based, the same on SQLite and PostgreSQL: each statement is driven by the staged rows, so that a merge costs what a
scope holds, not what the ledger holds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    Table,
    and_,
    column,
    delete,
    exists,
    insert,
    literal,
    select,
    table,
    update,
)
from sqlalchemy.schema import CreateTable

from models.base import Facet, content_hash, facets
from models.keys import PolicyDocument

Row = Mapping[str, Any]
"""One fact: the facet's natural key and values by column name."""


@dataclass(slots=True)
class Batch:
    """What was learned, by facet: the facts, and the listings that were complete (tuples of the facet's cover columns)."""

    rows: dict[type[Facet], list[Row]] = field(default_factory=dict)
    covers: dict[type[Facet], set[tuple[Any, ...]]] = field(default_factory=dict)
    documents: dict[bytes, PolicyDocument] = field(default_factory=dict)
    """Policy texts by their hash, stored once however many facts point to them."""

    def add(self, facet: type[Facet], **values: Any) -> None:
        """Add one fact."""
        self.rows.setdefault(facet, []).append(values)

    def complete(self, facet: type[Facet], *cover: Any) -> None:
        """State that the listing which this cover names arrived whole: what it did not show is gone."""
        if len(cover) != len(facet.cover):
            raise ValueError(f"{facet.__name__} is covered by {facet.cover}, not by {cover!r}")
        self.covers.setdefault(facet, set()).add(cover)

    def absorb(self, other: Batch) -> None:
        """Add what another batch learned, so that several scopes are merged at once."""
        for facet, rows in other.rows.items():
            self.rows.setdefault(facet, []).extend(rows)
        for facet, covers in other.covers.items():
            self.covers.setdefault(facet, set()).update(covers)
        self.documents.update(other.documents)


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows written by a merge."""

    opened: int = 0
    closed: int = 0

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.opened + other.opened, self.closed + other.closed)


def merge(connection: Connection, run_id: int, batch: Batch) -> Merged:
    """Bring the ledger to what the batch says, within the caller's transaction; nothing else is touched.

    Facts equal to the last known version write nothing. Facts that a complete listing no longer shows are closed, and with
    them whatever describes them.
    """
    total = Merged()
    _store_documents(connection, batch.documents)
    for facet in _ordered({*batch.rows, *batch.covers}):
        rows = batch.rows.get(facet, ())
        covers = batch.covers.get(facet, set())
        if not rows and not covers:
            continue
        total += _merge_facet(connection, run_id, facet, rows, covers)
    return total


def stage_table(facet: type[Facet]) -> Table:
    """The temporary table that a facet's facts are staged in."""
    source = facet.table()
    columns = [Column(name, source.c[name].type) for name in (*facet.value_columns(), "content")]
    return Table(f"stage_{source.name}", MetaData(), *columns, prefixes=["TEMPORARY"])


def merge_staged(
    connection: Connection, run_id: int, facet: type[Facet], staged: Table, covers: Table | None
) -> Merged:
    """The three statements. ``covers`` holds the complete listings; ``None`` means that none was proved complete."""
    target = facet.table()
    now_open = target.c.valid_to.is_(None)
    same = and_(*(target.c[name] == staged.c[name] for name in facet.natural))

    changed = update(target).values(valid_to=run_id).where(same, now_open, target.c.content != staged.c.content)
    closed = connection.execute(changed).rowcount
    gone = 0
    if covers is not None:
        covered = and_(*(target.c[name] == covers.c[name] for name in facet.cover)) if facet.cover else literal(1) == 1
        absent = update(target).values(valid_to=run_id).where(now_open, ~exists(select(staged.c.content).where(same)))
        absent = absent.where(covered) if facet.cover else absent
        gone = connection.execute(absent).rowcount
    names = (*facet.value_columns(), "content")
    fresh = select(*(staged.c[name] for name in names), literal(run_id).label("valid_from")).where(
        ~exists(select(target.c.version_id).where(same, now_open)),
    )
    opened = connection.execute(insert(target).from_select([*names, "valid_from"], fresh)).rowcount
    if gone:
        gone += _close_orphans(connection, run_id, target.name)
    return Merged(opened, closed + gone)


def open_rows(facet: type[Facet], run_id: int | None = None) -> Any:
    """A SELECT of the versions known as of a run, or the last known ones."""
    target = facet.table()
    if run_id is None:
        return select(target).where(target.c.valid_to.is_(None))
    ended = target.c.valid_to.is_(None) | (target.c.valid_to > run_id)
    return select(target).where(target.c.valid_from <= run_id, ended)


def _store_documents(connection: Connection, documents: Mapping[bytes, PolicyDocument]) -> None:
    if not documents:
        return
    target = PolicyDocument.metadata.tables[PolicyDocument.__tablename__]
    hashes = sorted(documents)
    for start in range(0, len(hashes), 500):
        wanted = hashes[start : start + 500]
        known = set(connection.scalars(select(target.c.policy_hash).where(target.c.policy_hash.in_(wanted))))
        new = [documents[one] for one in wanted if one not in known]
        if new:
            values = [
                {"policy_hash": one.policy_hash, "canonical": one.canonical, "received": one.received} for one in new
            ]
            connection.execute(insert(target), values)


def _merge_facet(
    connection: Connection, run_id: int, facet: type[Facet], rows: Sequence[Row], covers: set[tuple[Any, ...]]
) -> Merged:
    staged = stage_table(facet)
    _create(connection, staged, facet.natural)
    _fill(connection, staged, _staged_values(facet, staged, rows, connection.dialect.name))
    cover_table = None
    if covers:
        source = facet.table()
        cover_columns = [Column(name, source.c[name].type) for name in facet.cover] or [
            Column("everything", literal(1).type)
        ]
        cover_table = Table(f"cover_{source.name}", MetaData(), *cover_columns, prefixes=["TEMPORARY"])
        _create(connection, cover_table, ())
        _fill(connection, cover_table, [cover or (1,) for cover in covers])
    return merge_staged(connection, run_id, facet, staged, cover_table)


def _staged_values(facet: type[Facet], staged: Table, rows: Iterable[Row], dialect: str) -> list[tuple[Any, ...]]:
    names = facet.value_columns()
    natural = [names.index(name) for name in facet.natural]
    hashed = [index for index, name in enumerate(names) if name not in facet.natural and name not in facet.unhashed]
    converters = _converters(staged, dialect)
    unique: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        values = [row[name] for name in names]
        digest = content_hash([_hashable(values[index]) for index in hashed])
        for index, convert in converters:
            values[index] = convert(values[index])
        unique[tuple(values[index] for index in natural)] = (*values, digest)
    return list(unique.values())


def _hashable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _converters(staged: Table, dialect: str) -> list[tuple[int, Callable[[Any], Any]]]:
    """SQLite is filled below SQLAlchemy, for speed, so its time format is applied here."""
    if dialect != "sqlite":
        return []
    return [
        (index, _sqlite_time)
        for index, staged_column in enumerate(staged.columns)
        if staged_column.type.python_type is dt.datetime
    ]


def _sqlite_time(value: dt.datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {value!r}")
    return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _create(connection: Connection, staged: Table, key: Sequence[str]) -> None:
    connection.execute(CreateTable(staged, if_not_exists=True))
    if key:
        schema = "temp." if connection.dialect.name == "sqlite" else ""
        columns = ", ".join(f'"{name}"' for name in key)
        connection.exec_driver_sql(
            f'CREATE INDEX IF NOT EXISTS {schema}"ix_{staged.name}" ON "{staged.name}" ({columns})'
        )
    connection.execute(delete(staged))


def _fill(connection: Connection, staged: Table, values: Sequence[tuple[Any, ...]]) -> None:
    if not values:
        return
    names = ", ".join(f'"{staged_column.name}"' for staged_column in staged.columns)
    if connection.dialect.name == "postgresql":
        cursor = connection.connection.cursor()
        with cursor.copy(f'COPY "{staged.name}" ({names}) FROM STDIN') as copy:
            for row in values:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(staged.columns))
    connection.exec_driver_sql(f'INSERT INTO "{staged.name}" ({names}) VALUES ({marks})', list(values))


def _close_orphans(connection: Connection, run_id: int, parent_name: str) -> int:
    """Close what describes facts of this parent that have just ended."""
    closed = 0
    for child in facets().values():
        for own, parent, parent_column in child.parents:
            if parent != parent_name:
                continue
            target = child.table()
            ended = table(parent, column(parent_column), column("valid_to"))
            living = ended.alias()
            query = (
                update(target)
                .values(valid_to=run_id)
                .where(
                    target.c.valid_to.is_(None),
                    target.c[own].in_(select(ended.c[parent_column]).where(ended.c.valid_to == run_id)),
                    ~exists(
                        select(literal(1)).where(
                            living.c[parent_column] == target.c[own],
                            living.c.valid_to.is_(None),
                        )
                    ),
                )
            )
            count = connection.execute(query).rowcount
            closed += count
            if count:
                closed += _close_orphans(connection, run_id, target.name)
    return closed


def _ordered(wanted: set[type[Facet]]) -> list[type[Facet]]:
    """What describes others comes last, so that a parent's end is seen by its children's merge."""
    return sorted(wanted, key=lambda facet: (len(facet.parents) > 0, facet.table().name))
