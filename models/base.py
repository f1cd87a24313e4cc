"""The vocabulary of the tables: column types that suit SQLite and PostgreSQL, and what a facet of history is."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from sqlalchemy import DateTime, Dialect, Index, Integer, LargeBinary, MetaData, Table, Text, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[dt.datetime]):
    """An instant in UTC: aware in Python, ``timestamptz`` on PostgreSQL, ISO text on SQLite (which has no such type)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Refuse naive values: a time without a zone is a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        value = value.astimezone(dt.UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        """Give every time back with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no white space, times in ISO 8601."""
    return _encoded(value).decode()


def content_hash(value: Any) -> bytes:
    """16 bytes that are equal for equal values (BLAKE2b over :func:`canonical_json`)."""
    return hashlib.blake2b(_encoded(value), digest_size=16).digest()


def storable(value: str) -> str:
    """A text as both engines can keep it: PostgreSQL takes no NUL, and half of a surrogate pair is no character."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _encoded(value: Any) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, option=options)
    except orjson.JSONEncodeError:
        return orjson.dumps(_all_storable(value), option=options)


def _all_storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_all_storable(key): _all_storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_all_storable(one) for one in value]
    return value


class Base(DeclarativeBase):
    """Every table of the ledger."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {dt.datetime: UtcDateTime(), str: Text(), bytes: LargeBinary()}


class Facet(Base):
    """One kind of fact, kept as validity intervals (slowly changing dimension, type 2).

    ``valid_from`` is the run that first saw this version; ``valid_to`` the run that saw it changed or proved it gone; a
    version without ``valid_to`` is the last known one. A version was known in run R when
    ``valid_from <= R and (valid_to is null or valid_to > R)``.
    """

    __abstract__ = True

    natural: ClassVar[tuple[str, ...]]
    """Columns that identify the fact."""
    cover: ClassVar[tuple[str, ...]] = ()
    """Columns that name the listing which would have shown the fact; absence counts only if that listing was complete."""
    parents: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """(own column, parent table, parent column): a fact ends when what it describes has ended."""
    unhashed: ClassVar[frozenset[str]] = frozenset()
    """Columns whose change makes no new version (free text of error messages)."""

    version_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True, sort_order=-10)
    valid_from: Mapped[int] = mapped_column(Integer, sort_order=10)
    valid_to: Mapped[int | None] = mapped_column(Integer, sort_order=11)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(16), sort_order=12)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table = cls.__dict__.get("__table__")
        if table is None:
            return
        open_version = text("valid_to IS NULL")
        Index(
            f"uq_{table.name}_open",
            *(table.c[name] for name in cls.natural),
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
        for columns in {cls.cover, *((own,) for own, _, _ in cls.parents)}:
            if columns and cls.natural[: len(columns)] != columns:
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
        own = {"version_id", "valid_from", "valid_to", "content_hash"}
        return tuple(column.name for column in cls.table().columns if column.name not in own)


def facets() -> dict[str, type[Facet]]:
    """Every facet by its table's name, in the order of the names."""
    found: dict[str, type[Facet]] = {
        mapper.local_table.name: mapper.class_  # type: ignore[attr-defined]  # mapped classes here have one Table each
        for mapper in Base.registry.mappers
        if issubclass(mapper.class_, Facet)
    }
    return dict(sorted(found.items()))
