"""What the tables of the migrations have in common.

Released migrations call these functions, so their results must not change: a later convention gets a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import sqlalchemy as sa
from alembic import op

Columns: TypeAlias = list[sa.Column[Any]]
FACT_TABLES = (
    "account",
    "account_region",
    "alias",
    "custom_key_store",
    "finding",
    "gap",
    "iam_attachment",
    "iam_group",
    "iam_inline_policy",
    "iam_listing",
    "iam_managed_policy",
    "iam_membership",
    "iam_principal",
    "key",
    "key_analysis",
    "key_grant",
    "key_last_use",
    "key_last_use_gap",
    "key_metadata",
    "key_policy",
    "key_reference",
    "key_rotation",
    "key_rotation_event",
    "key_usage",
    "resource",
    "resource_policy",
    "rule_result",
    "tag",
    "trail",
    "trail_listing",
    "trail_selector",
    "trail_shadow",
    "trail_status",
)
"""The fact tables of schema 0007."""


def _columns(kind: Callable[[], sa.types.TypeEngine[Any]], *names: str, null: bool = False) -> Columns:
    return [sa.Column(name, kind(), nullable=null) for name in names]


text = partial(_columns, sa.Text)
integer = partial(_columns, sa.Integer)
boolean = partial(_columns, sa.Boolean)
time = partial(_columns, partial(sa.DateTime, timezone=True))
"""Columns with a time in UTC."""
digest = partial(_columns, partial(sa.LargeBinary, length=16))
"""Columns with a hash of 16 bytes."""


def create_table(name: str, key: Iterable[str], *columns: Columns, of_run: bool = False) -> None:
    """Create a table with a primary key; with `of_run`, its run_id refers to a run."""
    foreign = (
        [sa.ForeignKeyConstraint(["run_id"], ["run.run_id"], name=op.f(f"fk_{name}_run_id_run"))] if of_run else []
    )
    primary = sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}"))
    op.create_table(name, *(column for group in columns for column in group), *foreign, primary)


def create_fact_table(name: str, natural_key: list[str], *columns: Columns, listing: Iterable[str] = ()) -> None:
    """Create a fact table of schema 0001: validity interval, content hash, and indexes of its open versions."""
    version = [sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False)]
    interval = (integer("valid_from"), integer("valid_to", null=True), digest("content"))
    create_table(name, ["version_id"], version, *columns, *interval)
    if listing:
        create_partial_index(f"ix_{name}_{'_'.join(listing)}", name, listing, "valid_to IS NULL")
    create_partial_index(f"uq_{name}_open", name, natural_key, "valid_to IS NULL", unique=True)


def create_partial_index(name: str, table: str, columns: Iterable[str], where: str, *, unique: bool = False) -> None:
    """Create an index of the rows that meet a condition."""
    op.create_index(
        name, table, list(columns), unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def drop_tables(*names: str) -> None:
    """Drop tables with their indexes."""
    for name in names:
        op.drop_table(name)
