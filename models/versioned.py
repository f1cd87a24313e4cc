"""The base class of all tables, and of the tables that keep facts as validity intervals."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sqlalchemy import Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from models.types import UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base class of all tables of the ledger."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {dt.datetime: UtcDateTime(), str: Text(), bytes: LargeBinary()}

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805 - SQLAlchemy passes the class
        """The name of the class in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def table(cls) -> Table:
        """The SQLAlchemy table of the class."""
        table = cls.__table__
        if not isinstance(table, Table):
            raise TypeError(f"{cls.__name__} is not mapped to one table")
        return table


class VersionedTable(Base):
    """A fact table: facts with validity intervals (slowly changing dimension, type 2).

    ``valid_from`` is the run that first saw a version. ``valid_to`` is the run that saw a different version or proved the
    fact absent; the current version has none. A version is valid in run R if
    ``valid_from <= R and (valid_to is null or valid_to > R)``.
    """

    __abstract__ = True

    natural_key: ClassVar[tuple[str, ...]]
    """Columns that identify the fact."""
    listing_key: ClassVar[tuple[str, ...]] = ()
    """Columns that identify the listing of the fact. Only a complete listing proves the absence of a fact."""
    parents: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """(own column, parent table, parent column): a fact is closed when its parent is closed."""
    ignored_columns: ClassVar[frozenset[str]] = frozenset()
    """Columns whose change creates no new version, such as the text of error messages."""

    version_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True, sort_order=-10)
    valid_from: Mapped[int] = mapped_column(Integer, sort_order=10)
    valid_to: Mapped[int | None] = mapped_column(Integer, sort_order=11)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(16), sort_order=12)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table = cls.__dict__.get("__table__")
        if table is None:
            return
        _partial_index(f"uq_{table.name}_open", table, cls.natural_key, "valid_to IS NULL", unique=True)
        # For incremental loads (recently closed versions) and pruning (versions closed long ago).
        _partial_index(f"ix_{table.name}_valid_to", table, ("valid_to",), "valid_to IS NOT NULL")
        for columns in {cls.listing_key, *((own,) for own, _, _ in cls.parents)}:
            if columns and cls.natural_key[: len(columns)] != columns:
                _partial_index(f"ix_{table.name}_{'_'.join(columns)}", table, columns, "valid_to IS NULL")

    @classmethod
    def value_columns(cls) -> tuple[str, ...]:
        """Names of the natural key and value columns, without the bookkeeping columns."""
        bookkeeping = {"version_id", "valid_from", "valid_to", "content_hash"}
        return tuple(column.name for column in cls.table().columns if column.name not in bookkeeping)


def _partial_index(name: str, table: Table, columns: Iterable[str], where: str, *, unique: bool = False) -> None:
    condition = text(where)
    indexed = (table.c[column] for column in columns)
    Index(name, *indexed, unique=unique, sqlite_where=condition, postgresql_where=condition)


def versioned_tables() -> dict[str, type[VersionedTable]]:
    """All fact tables by table name, sorted by name."""
    tables: dict[str, type[VersionedTable]] = {
        mapper.local_table.name: mapper.class_  # type: ignore[attr-defined]  # mapped classes here have one Table each
        for mapper in Base.registry.mappers
        if issubclass(mapper.class_, VersionedTable)
    }
    return dict(sorted(tables.items()))
