"""One merge for every facet: stage what was seen, then insert new, close changed, close absent-and-proved.

Set-based, the same on SQLite and PostgreSQL: each statement is driven by the staged rows, so that a merge costs what a
scope holds, not what the ledger holds (the tests look at the query plans).
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, SupportsIndex, TypeVar

from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Insert,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import literal_column as sql
from sqlalchemy.dialects import postgresql, sqlite

from models.hashing import content_hash, storable
from models.store.last_use_queue import LastUsePoll, record_polls
from models.store.policy_canonical import canonical_policy
from models.store.staging import (
    closed_table,
    count_written,
    listing_table,
    prefer_index_scans,
    stage,
    stage_facts,
    stage_listings,
    stage_table,
)
from models.tables import versioned_tables
from models.tables.keys import PolicyDocument
from models.versioned import VersionedTable

_Writing = TypeVar("_Writing", Insert, Update)
Row = Mapping[str, Any]
"""One fact: the facet's natural key and values by column name."""


CHUNK_ROWS = 5000
"""Facts of one kind that are held as they are; more are packed, which takes a twentieth of the memory."""
CHUNK_DOCUMENTS = 1000


class CompressedChunk(bytes):
    """Packed facts. Pickled out of band where that is asked for: what carries them need not copy them."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _identity, (pickle.PickleBuffer(self) if int(protocol) >= 5 else bytes(self),)


def _identity(received: bytes) -> bytes:
    return received


def _pack(values: list[Any]) -> CompressedChunk:
    return CompressedChunk(zlib.compress(pickle.dumps(values, pickle.HIGHEST_PROTOCOL), 1))


def _unpack(piece: bytes) -> list[Any]:
    found: list[Any] = pickle.loads(zlib.decompress(piece))  # noqa: S301 - packed here or in a process of the same crawl
    return found


@dataclass(slots=True)
class Batch:
    """What was learned, by facet: the facts, and the listings that were complete (tuples of the facet's cover columns)."""

    rows: dict[type[VersionedTable], list[Row]] = field(default_factory=dict)
    complete_listings: dict[type[VersionedTable], set[tuple[Any, ...]]] = field(default_factory=dict)
    documents: dict[bytes, PolicyDocument] = field(default_factory=dict)
    """Policy texts by their hash, stored once however many facts point to them."""
    packed: dict[type[VersionedTable], list[bytes]] = field(default_factory=dict)
    """Further facts, :data:`PORTION` in each piece: a scope can hold a hundred thousand grants."""
    packed_documents: list[bytes] = field(default_factory=list)
    """Further policy texts, :data:`DOCUMENTS` in each piece."""
    last_use_polls: list[LastUsePoll] = field(default_factory=list)
    """Keys that were asked for their last use."""

    def add(self, model: type[VersionedTable], **values: Any) -> None:
        """Add one fact."""
        rows = self.rows.setdefault(model, [])
        rows.append(values)
        if len(rows) >= CHUNK_ROWS:
            self.packed.setdefault(model, []).append(_pack(rows))
            rows.clear()

    def document(self, received: str) -> bytes:
        """Keep a policy text; the hash of its canonical form, by which facts point to it."""
        canonical = canonical_policy(received)
        digest = content_hash(canonical)
        self.documents[digest] = PolicyDocument(policy_hash=digest, canonical=canonical, received=received)
        if len(self.documents) >= CHUNK_DOCUMENTS:
            texts = [(one.policy_hash, one.canonical, one.received) for one in self.documents.values()]
            self.packed_documents.append(_pack(texts))
            self.documents.clear()
        return digest

    def iter_chunks(self, model: type[VersionedTable]) -> Iterator[Sequence[Row]]:
        """The facts of a facet, some at a time."""
        for piece in self.packed.get(model, ()):
            yield _unpack(piece)
        if self.rows.get(model):
            yield self.rows[model]

    def iter_documents(self) -> Iterator[dict[bytes, PolicyDocument]]:
        """The policy texts by their hash, some at a time."""
        for piece in self.packed_documents:
            yield {
                digest: PolicyDocument(policy_hash=digest, canonical=canonical, received=received)
                for digest, canonical, received in _unpack(piece)
            }
        if self.documents:
            yield self.documents

    def mark_complete(self, model: type[VersionedTable], *listing_key: Any) -> None:
        """State that the listing which this cover names arrived whole: what it did not show is gone."""
        if len(listing_key) != len(model.listing_key):
            raise ValueError(f"{model.__name__} is covered by {model.listing_key}, not by {listing_key!r}")
        self.complete_listings.setdefault(model, set()).add(listing_key)

    def extend(self, other: Batch) -> None:
        """Add what another batch learned, so that several scopes are merged at once."""
        for model, rows in other.rows.items():
            self.rows.setdefault(model, []).extend(rows)
        for model, covers in other.complete_listings.items():
            self.complete_listings.setdefault(model, set()).update(covers)
        self.documents.update(other.documents)
        for model, pieces in other.packed.items():
            self.packed.setdefault(model, []).extend(pieces)
        self.packed_documents.extend(other.packed_documents)
        self.last_use_polls.extend(other.last_use_polls)


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
    them whatever describes them. A second merge in the same run replaces what the first one opened.
    """
    total = Merged()
    prefer_index_scans(connection)
    for documents in batch.iter_documents():
        _store_documents(connection, documents)
    for model in _ordered({*batch.rows, *batch.complete_listings}):
        total += _merge_facet(
            connection, run_id, model, batch.iter_chunks(model), batch.complete_listings.get(model, set())
        )
    if batch.last_use_polls:
        record_polls(connection, run_id, batch.last_use_polls)
    return total


def open_rows(model: type[VersionedTable], run_id: int | None = None) -> Any:
    """A SELECT of the versions known as of a run, or the last known ones."""
    target = model.table()
    if run_id is None:
        return select(target).where(target.c.valid_to.is_(None))
    ended = target.c.valid_to.is_(None) | (target.c.valid_to > run_id)
    return select(target).where(target.c.valid_from <= run_id, ended)


@dataclass(frozen=True, slots=True)
class Statements:
    """What a merge of one facet executes; ``:run`` is the run's id."""

    close_changed: Update
    """Ends the versions that the staged facts contradict."""
    close_absent: Update
    """Ends the facts that the staged listings would have shown."""
    insert_new: Insert
    """Begins a version of each staged fact that has none."""
    delete_stillborn: Delete
    """Takes back a version (``:version``) that began in the run in which it also ended: no run ever knew it."""


@cache
def statements(model: type[VersionedTable]) -> Statements:
    """The statements of a facet."""
    target, staged, covers = model.table(), stage_table(model), listing_table(model)
    same = and_(*(target.c[name] == staged.c[name] for name in model.natural_key))
    # SQLite would rather read the whole ledger and look each row up among the staged ones: the staged side of the join
    # is made an expression, which no index serves.
    first, *others = model.natural_key
    probed = and_(
        target.c[first] == func.coalesce(staged.c[first], sql("''")),
        *(target.c[name] == staged.c[name] for name in others),
    )
    now_open = target.c.valid_to.is_(None)
    end = _or_rollback(update(target).values(valid_to=bindparam("run")).where(now_open))
    told = [target.c.version_id, target.c.valid_from, *(target.c[name] for _, _, name in _children(model))]
    covered = [target.c[name] == covers.c[name] for name in model.listing_key]
    names = (*model.value_columns(), "content")
    new = select(*(staged.c[name] for name in names), bindparam("run")).where(
        ~exists(select(sql("1")).select_from(target).where(same, now_open))
    )
    return Statements(
        close_changed=end.where(probed, target.c.content != staged.c.content).returning(*told),
        close_absent=end.where(*covered, ~exists(select(sql("1")).select_from(staged).where(same))).returning(*told),
        insert_new=_or_rollback(insert(target).from_select([*names, "valid_from"], new)),
        delete_stillborn=delete(target).where(target.c.version_id == bindparam("version")),
    )


@cache
def orphaned(child: type[VersionedTable], own: str, parent: type[VersionedTable], parent_column: str) -> Update:
    """Ends what describes the facts staged in the parent's :func:`models.store.staging.ended_table`."""
    target, ended = child.table(), closed_table(parent, parent_column)
    told = [target.c.version_id, target.c.valid_from, *(target.c[name] for _, _, name in _children(child))]
    end = update(target).values(valid_to=bindparam("run"))
    return (
        _or_rollback(end).where(target.c.valid_to.is_(None), target.c[own] == ended.c[parent_column]).returning(*told)
    )


def _or_rollback(statement: _Writing) -> _Writing:
    """Have SQLite end the transaction where a statement fails, as the caller does anyway.

    Otherwise it writes down what each page was that the statement changes, so that it could be taken back alone: half of all
    that a merge writes.
    """
    return statement.prefix_with("OR ROLLBACK", dialect="sqlite")


def _store_documents(connection: Connection, documents: Mapping[bytes, PolicyDocument]) -> None:
    target = PolicyDocument.metadata.tables[PolicyDocument.__tablename__]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    hashes = sorted(documents)
    for start in range(0, len(hashes), 500):
        wanted = hashes[start : start + 500]
        known = set(connection.scalars(select(target.c.policy_hash).where(target.c.policy_hash.in_(wanted))))
        values = [
            {"policy_hash": digest, "canonical": storable(one.canonical), "received": storable(one.received)}
            for digest in wanted
            if digest not in known
            for one in (documents[digest],)
        ]
        if values:
            connection.execute(dialect.insert(target).on_conflict_do_nothing(), values)


def _merge_facet(
    connection: Connection,
    run_id: int,
    model: type[VersionedTable],
    portions: Iterator[Sequence[Row]],
    covers: set[tuple[Any, ...]],
) -> Merged:
    first = next(portions, None)
    if first is None and not covers:
        return Merged()
    steps = statements(model)
    rows = stage_facts(connection, model, chain([first or ()], portions))
    opened = closed = 0
    if rows:
        closed += len(_end(connection, run_id, model, steps.close_changed))
    if covers:
        if model.listing_key:
            stage(connection, listing_table(model), stage_listings(covers))
        gone = _end(connection, run_id, model, steps.close_absent)
        closed += len(gone) + _end_orphans(connection, run_id, model, gone)
    if rows:
        inserted = connection.execute(steps.insert_new, {"run": run_id}, execution_options={"preserve_rowcount": True})
        opened = inserted.rowcount
        count_written(connection, model.table(), opened)
    return Merged(opened, closed)


def _end(connection: Connection, run_id: int, model: type[VersionedTable], statement: Executable) -> Sequence[Any]:
    """End versions; returns those that ended."""
    ended = connection.execute(statement, {"run": run_id}).all()
    same_run_versions = [{"version": row.version_id} for row in ended if row.valid_from == run_id]
    if same_run_versions:
        connection.execute(statements(model).delete_stillborn, same_run_versions)
    return ended


def _end_orphans(connection: Connection, run_id: int, parent: type[VersionedTable], gone: Sequence[Any]) -> int:
    """End what describes the facts that are gone."""
    if not gone:
        return 0
    closed = 0
    staged: Table | None = None
    for child, own, parent_column in _children(parent):
        if staged is None or parent_column not in staged.c:
            staged = closed_table(parent, parent_column)
            stage(connection, staged, sorted({(getattr(row, parent_column),) for row in gone}))
        ended = _end(connection, run_id, child, orphaned(child, own, parent, parent_column))
        closed += len(ended) + _end_orphans(connection, run_id, child, ended)
    return closed


@cache
def _children(parent: type[VersionedTable]) -> tuple[tuple[type[VersionedTable], str, str], ...]:
    """What describes facts of this parent: the facet, its own column and the parent's."""
    name = parent.table().name
    found = [
        (child, own, column)
        for child in versioned_tables().values()
        for own, described, column in child.parents
        if described == name
    ]
    return tuple(sorted(found, key=lambda one: (one[2], one[0].table().name)))


def _ordered(wanted: set[type[VersionedTable]]) -> list[type[VersionedTable]]:
    """What describes others comes last, so that a parent's end is seen by its children's merge."""
    return sorted(wanted, key=lambda model: (len(model.parents) > 0, model.table().name))
