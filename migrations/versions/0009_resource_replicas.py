"""Replicas of resources in other regions, with their status.

Revision: 0009
After: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.schema import create_partial_index, create_table, digest, drop_tables, integer, text

revision = "0009"
down_revision = "0008"

_TABLE = "resource_replica"


def upgrade() -> None:
    create_table(
        _TABLE,
        ["version_id"],
        [sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False)],
        text("resource_arn", "replica_region"),
        text("status", "status_message", "raw_key", null=True),
        integer("valid_from"),
        integer("valid_to", null=True),
        digest("content_hash"),
    )
    create_partial_index(
        f"uq_{_TABLE}_open", _TABLE, ["resource_arn", "replica_region"], "valid_to IS NULL", unique=True
    )
    create_partial_index(f"ix_{_TABLE}_valid_to", _TABLE, ["valid_to"], "valid_to IS NOT NULL")


def downgrade() -> None:
    op.drop_index(f"ix_{_TABLE}_valid_to", table_name=_TABLE)
    drop_tables(_TABLE)
