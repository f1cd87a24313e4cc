"""One SCD2 merge for every fact table: stage the facts, insert new versions, close changed and provably absent ones.

The merge is set-based and the same on SQLite and PostgreSQL. The staged rows drive each statement, so its cost depends on
the size of the scope and not on the size of the ledger (tests check the query plans).
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

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
    keys_to_stage,
    listing_table,
    prefer_index_scans,
    stage,
    stage_facts,
    stage_more,
    stage_table,
)
from models.tables import versioned_tables
from models.tables.keys import PolicyDocument
from models.versioned import VersionedTable

_Writing = TypeVar("_Writing", Insert, Update)
Row = Mapping[str, Any]
"""One fact: natural key and values by column name."""


LOOSE_ROWS = 200
"""Facts and documents of a batch that are kept uncompressed: hundreds of scopes are crawled at once, for minutes if their rates
are limited. Compressed chunks take a twentieth of the memory."""
CHUNK_ROWS = 2000
"""Facts of one table, or documents, that are merged at a time."""


def _values(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _pack(values: list[Any]) -> bytes:
    return zlib.compress(pickle.dumps(values, pickle.HIGHEST_PROTOCOL), 1)


def _unpack(chunk: bytes) -> Any:
    return pickle.loads(zlib.decompress(chunk))  # noqa: S301 - packed by this crawl


class PolicyText(NamedTuple):
    """A policy in canonical form and as received; see :class:`models.tables.keys.PolicyDocument`."""

    canonical: str
    received: str


@dataclass(slots=True)
class Batch:
    """Facts and complete listings by table; a listing is a tuple of the values of the listing key."""

    rows: dict[type[VersionedTable], list[Row]] = field(default_factory=dict)
    complete_listings: dict[type[VersionedTable], set[tuple[Any, ...]]] = field(default_factory=dict)
    documents: dict[bytes, PolicyText] = field(default_factory=dict)
    """Policy documents by hash, each stored once."""
    packed: dict[type[VersionedTable | PolicyDocument], list[bytes]] = field(default_factory=dict)
    """More facts and documents, in compressed chunks: a scope can hold a hundred thousand grants."""
    kept: dict[type[VersionedTable], set[tuple[Any, ...]]] = field(default_factory=dict)
    """Natural keys of facts that a listing names without valid values: they keep their last known ones."""
    last_use_polls: list[LastUsePoll] = field(default_factory=list)
    """Polls of the last use of keys."""
    loose: int = 0
    """Facts and documents that are not packed."""

    def add(self, model: type[VersionedTable], **values: Any) -> None:
        """Add one fact."""
        self.rows.setdefault(model, []).append(values)
        self._count()

    def document(self, received: str) -> bytes:
        """Add a policy document; returns the hash of its canonical form, which facts refer to."""
        canonical = canonical_policy(received)
        digest = content_hash(canonical)
        self.documents[digest] = PolicyText(canonical, received)
        self._count()
        return digest

    def _count(self) -> None:
        self.loose += 1
        if self.loose < LOOSE_ROWS:
            return
        self.loose = 0
        for model, rows in self.rows.items():
            if rows:
                self.packed.setdefault(model, []).append(_pack(rows))
                rows.clear()
        if self.documents:
            self.packed.setdefault(PolicyDocument, []).append(_pack(list(self.documents.items())))
            self.documents.clear()

    def iter_chunks(self, model: type[VersionedTable]) -> Iterator[Sequence[Row]]:
        """Yield the facts of a table in chunks."""
        return self._unpacked(model, self.rows.get(model, ()))

    def iter_documents(self) -> Iterator[dict[bytes, PolicyText]]:
        """Yield the policy documents by hash, in chunks."""
        return map(dict, self._unpacked(PolicyDocument, list(self.documents.items())))

    def _unpacked(self, model: type[VersionedTable | PolicyDocument], loose: Sequence[Any]) -> Iterator[list[Any]]:
        values: list[Any] = []
        for chunk in self.packed.get(model, ()):
            values += _unpack(chunk)
            if len(values) >= CHUNK_ROWS:
                yield values
                values = []
        if values or loose:
            yield [*values, *loose]

    def mark_complete(self, model: type[VersionedTable], *listing_key: Any) -> None:
        """Record that a listing was complete: facts that it does not contain are absent."""
        if len(listing_key) != len(model.listing_key):
            raise ValueError(f"{model.__name__} has the listing key {model.listing_key}, got {listing_key!r}")
        self.complete_listings.setdefault(model, set()).add(listing_key)

    def keep(self, model: type[VersionedTable], *natural_key: Any) -> None:
        """Record that a fact exists although its values are unknown: no listing closes it."""
        self.kept.setdefault(model, set()).add(natural_key)

    def drop_conflicts(self, other: Batch) -> bool:
        """Drop the facts that have other values in another batch, with their children; returns whether there are any."""
        conflicting = False
        for model in other.rows:
            names = model.natural_key
            others = {_values(row, names): row for chunk in other.iter_chunks(model) for row in chunk}
            own = [row for chunk in self.iter_chunks(model) for row in chunk]
            conflicts = [row for row in own if others.get(_values(row, names), row) != row]
            if not conflicts:
                continue
            conflicting = True
            self._drop(model, names, conflicts, names)
            for child, column, parent_column in _children(model):
                self._drop(child, (column,), conflicts, (parent_column,))
                parents = {row[parent_column] for row in conflicts}
                listings = self.complete_listings.get(child, set())
                listings -= {listing for listing in listings if parents.intersection(listing)}
        return conflicting

    def _drop(
        self, model: type[VersionedTable], names: Sequence[str], dropped: Sequence[Row], names_there: Sequence[str]
    ) -> None:
        keys = {_values(row, names_there) for row in dropped}
        self.rows[model] = [
            row for chunk in self.iter_chunks(model) for row in chunk if _values(row, names) not in keys
        ]
        self.packed.pop(model, None)

    def extend(self, other: Batch) -> None:
        """Add the content of another batch, so that several scopes are merged at once."""
        for model, rows in other.rows.items():
            self.rows.setdefault(model, []).extend(rows)
        for sets, others in ((self.complete_listings, other.complete_listings), (self.kept, other.kept)):
            for model, keys in others.items():
                sets.setdefault(model, set()).update(keys)
        self.documents.update(other.documents)
        for packed, chunks in other.packed.items():
            self.packed.setdefault(packed, []).extend(chunks)
        self.last_use_polls.extend(other.last_use_polls)


@dataclass(frozen=True, slots=True)
class Merged:
    """Numbers of versions that a merge opened and closed."""

    opened: int = 0
    closed: int = 0

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.opened + other.opened, self.closed + other.closed)


def merge(connection: Connection, run_id: int, batch: Batch) -> Merged:
    """Merge a batch into the ledger, within the transaction of the caller.

    Facts equal to their current version write nothing. Facts absent from a complete listing are closed together with their
    children. A second merge in the same run replaces the versions that the first one opened.
    """
    total = Merged()
    prefer_index_scans(connection)
    for documents in batch.iter_documents():
        _store_documents(connection, documents)
    for model in _ordered({*batch.rows, *batch.complete_listings}):
        total += _merge_table(connection, run_id, model, batch)
    if batch.last_use_polls:
        record_polls(connection, run_id, batch.last_use_polls)
    return total


def open_rows(model: type[VersionedTable], run_id: int | None = None) -> Any:
    """A SELECT of the versions valid in a run, or of the current ones."""
    target = model.table()
    if run_id is None:
        return select(target).where(target.c.valid_to.is_(None))
    still_valid = target.c.valid_to.is_(None) | (target.c.valid_to > run_id)
    return select(target).where(target.c.valid_from <= run_id, still_valid)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of a merge into one table; ``:run`` is the ID of the run."""

    close_changed: Update
    """Closes versions that differ from the staged facts."""
    close_absent: Update
    """Closes facts that the staged listings prove absent."""
    insert_new: Insert
    """Inserts a version of each staged fact without an open version."""
    delete_stillborn: Delete
    """Deletes a version (``:version``) that was opened and closed in the same run."""


@cache
def statements(model: type[VersionedTable]) -> Statements:
    """The statements for a table."""
    target, staged, listings = model.table(), stage_table(model), listing_table(model)
    same = and_(*(target.c[name] == staged.c[name] for name in model.natural_key))
    # The staged side of the join is an expression, which no index serves. Otherwise SQLite scans the whole ledger and looks
    # each row up among the staged rows.
    first, *rest = model.natural_key
    probed = and_(
        target.c[first] == func.coalesce(staged.c[first], sql("''")),
        *(target.c[name] == staged.c[name] for name in rest),
    )
    now_open = target.c.valid_to.is_(None)
    end = _or_rollback(update(target).values(valid_to=bindparam("run")).where(now_open))
    returned = [target.c.version_id, target.c.valid_from, *(target.c[name] for _, _, name in _children(model))]
    of_listing = [target.c[name] == listings.c[name] for name in model.listing_key]
    names = (*model.value_columns(), "content_hash")
    new = select(*(staged.c[name] for name in names), bindparam("run")).where(
        ~exists(select(sql("1")).select_from(target).where(same, now_open))
    )
    return Statements(
        close_changed=end.where(probed, target.c.content_hash != staged.c.content_hash).returning(*returned),
        close_absent=end.where(*of_listing, ~exists(select(sql("1")).select_from(staged).where(same))).returning(
            *returned
        ),
        insert_new=_or_rollback(insert(target).from_select([*names, "valid_from"], new)),
        delete_stillborn=delete(target).where(target.c.version_id == bindparam("version")),
    )


@cache
def orphaned(child: type[VersionedTable], own: str, parent: type[VersionedTable], parent_column: str) -> Update:
    """Closes the children of the parents staged in :func:`models.store.staging.closed_table`."""
    target, closed = child.table(), closed_table(parent, parent_column)
    returned = [target.c.version_id, target.c.valid_from, *(target.c[name] for _, _, name in _children(child))]
    end = update(target).values(valid_to=bindparam("run"))
    return (
        _or_rollback(end)
        .where(target.c.valid_to.is_(None), target.c[own] == closed.c[parent_column])
        .returning(*returned)
    )


def _or_rollback(statement: _Writing) -> _Writing:
    """Make SQLite roll back the transaction if the statement fails, as the caller does anyway.

    Otherwise SQLite journals each changed page to be able to undo the statement alone, which is half of all writes of a merge.
    """
    return statement.prefix_with("OR ROLLBACK", dialect="sqlite")


def _store_documents(connection: Connection, documents: Mapping[bytes, PolicyText]) -> None:
    target = PolicyDocument.table()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    hashes = sorted(documents)
    for start in range(0, len(hashes), 500):
        chunk = hashes[start : start + 500]
        known = set(connection.scalars(select(target.c.policy_hash).where(target.c.policy_hash.in_(chunk))))
        values = [
            {"policy_hash": digest, **{name: storable(text) for name, text in documents[digest]._asdict().items()}}
            for digest in chunk
            if digest not in known
        ]
        if values:
            connection.execute(dialect.insert(target).on_conflict_do_nothing(), values)


def _merge_table(
    connection: Connection,
    run_id: int,
    model: type[VersionedTable],
    batch: Batch,
) -> Merged:
    chunks, listings = batch.iter_chunks(model), batch.complete_listings.get(model, set())
    first = next(chunks, None)
    if first is None and not listings:
        return Merged()
    steps = statements(model)
    rows = stage_facts(connection, model, chain([first or ()], chunks))
    opened = closed = 0
    if rows:
        closed += len(_close(connection, run_id, model, steps.close_changed))
        inserted = connection.execute(steps.insert_new, {"run": run_id}, execution_options={"preserve_rowcount": True})
        opened = inserted.rowcount
        count_written(connection, model.table(), opened)
    if listings:
        if model.listing_key:
            texts = [tuple(storable(part) if isinstance(part, str) else part for part in key) for key in listings]
            stage(connection, listing_table(model), texts)
        if kept := batch.kept.get(model):
            stage_more(connection, stage_table(model), keys_to_stage(model, kept))
        absent = _close(connection, run_id, model, steps.close_absent)
        closed += len(absent) + _close_orphans(connection, run_id, model, absent)
    return Merged(opened, closed)


def _close(connection: Connection, run_id: int, model: type[VersionedTable], statement: Executable) -> Sequence[Any]:
    """Close versions; returns the closed ones."""
    closed = connection.execute(statement, {"run": run_id}).all()
    same_run_versions = [{"version": row.version_id} for row in closed if row.valid_from == run_id]
    if same_run_versions:
        connection.execute(statements(model).delete_stillborn, same_run_versions)
    return closed


def _close_orphans(connection: Connection, run_id: int, parent: type[VersionedTable], parents: Sequence[Any]) -> int:
    """Close the children of closed facts; returns the number of closed versions."""
    if not parents:
        return 0
    closed = 0
    staged: Table | None = None
    for child, own, parent_column in _children(parent):
        if staged is None or parent_column not in staged.c:
            staged = closed_table(parent, parent_column)
            stage(connection, staged, sorted({(getattr(row, parent_column),) for row in parents}))
        orphans = _close(connection, run_id, child, orphaned(child, own, parent, parent_column))
        closed += len(orphans) + _close_orphans(connection, run_id, child, orphans)
    return closed


@cache
def _children(parent: type[VersionedTable]) -> tuple[tuple[type[VersionedTable], str, str], ...]:
    """The children of a table: table, own column and column of the parent."""
    name = parent.table().name
    children = [
        (child, own, column)
        for child in versioned_tables().values()
        for own, described, column in child.parents
        if described == name
    ]
    return tuple(sorted(children, key=lambda child: (child[2], child[0].table().name)))


def _ordered(models: set[type[VersionedTable]]) -> list[type[VersionedTable]]:
    """Parents before children, so that the merge of a child sees closed parents."""
    return sorted(models, key=lambda model: (len(model.parents) > 0, model.table().name))
