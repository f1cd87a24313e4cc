"""The base class of all tables, and of the tables that keep facts as validity intervals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from models.types import UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table of the ledger."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {dt.datetime: UtcDateTime(), str: Text(), bytes: LargeBinary()}


class VersionedTable(Base):
    """One kind of fact, kept as validity intervals (slowly changing dimension, type 2).

    ``valid_from`` is the run that first saw this version; ``valid_to`` the run that saw it changed or proved it gone; a
    version without ``valid_to`` is the last known one. A version was known in run R when
    ``valid_from <= R and (valid_to is null or valid_to > R)``.
    """

    __abstract__ = True

    natural_key: ClassVar[tuple[str, ...]]
    """Columns that identify the fact."""
    listing_key: ClassVar[tuple[str, ...]] = ()
    """Columns that name the listing which would have shown the fact; absence counts only if that listing was complete."""
    parents: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """(own column, parent table, parent column): a fact ends when what it describes has ended."""
    ignored_columns: ClassVar[frozenset[str]] = frozenset()
    """Columns whose change makes no new version (free text of error messages)."""

    version_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True, sort_order=-10)
    valid_from: Mapped[int] = mapped_column(Integer, sort_order=10)
    valid_to: Mapped[int | None] = mapped_column(Integer, sort_order=11)
    content: Mapped[bytes] = mapped_column(LargeBinary(16), sort_order=12)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table = cls.__dict__.get("__table__")
        if table is None:
            return
        open_version = text("valid_to IS NULL")
        Index(
            f"uq_{table.name}_open",
            *(table.c[name] for name in cls.natural_key),
            unique=True,
            sqlite_where=open_version,
            postgresql_where=open_version,
        )
        # What ended lately, for who keeps a copy up to date, and what ended long ago, for who forgets it.
        Index(
            f"ix_{table.name}_valid_to",
            table.c.valid_to,
            sqlite_where=text("valid_to IS NOT NULL"),
            postgresql_where=text("valid_to IS NOT NULL"),
        )
        for columns in {cls.listing_key, *((own,) for own, _, _ in cls.parents)}:
            if columns and cls.natural_key[: len(columns)] != columns:
                Index(
                    f"ix_{table.name}_{'_'.join(columns)}",
                    *(table.c[name] for name in columns),
                    sqlite_where=open_version,
                    postgresql_where=open_version,
                )

    @classmethod
    def table(cls) -> Table:
        """The table itself, typed."""
        found = cls.__table__
        if not isinstance(found, Table):
            raise TypeError(f"{cls.__name__} is not mapped to one table")
        return found

    @classmethod
    def value_columns(cls) -> tuple[str, ...]:
        """Natural key and values, without the bookkeeping columns: what a crawler fills in."""
        own = {"version_id", "valid_from", "valid_to", "content"}
        return tuple(column.name for column in cls.table().columns if column.name not in own)


def versioned_tables() -> dict[str, type[VersionedTable]]:
    """Every facet by its table's name, in the order of the names."""
    found: dict[str, type[VersionedTable]] = {
        mapper.local_table.name: mapper.class_  # type: ignore[attr-defined]  # mapped classes here have one Table each
        for mapper in Base.registry.mappers
        if issubclass(mapper.class_, VersionedTable)
    }
    return dict(sorted(found.items()))
