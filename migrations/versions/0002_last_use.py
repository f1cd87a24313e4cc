"""Add the last use of keys, its gaps, and the time of the last poll of each key.

Revision: 0002
After: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_last_use",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key_arn", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cloudtrail_event_id", sa.Text(), nullable=True),
        sa.Column("tracking_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("key_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_key_last_use")),
    )
    with op.batch_alter_table("key_last_use", schema=None) as batch_op:
        batch_op.create_index(
            "uq_key_last_use_open",
            ["key_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "key_last_use_asked",
        sa.Column("key_arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key_arn", name=op.f("pk_key_last_use_asked")),
    )
    with op.batch_alter_table("key_last_use_asked", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_key_last_use_asked_account_id_region"), ["account_id", "region"], unique=False
        )

    op.create_table(
        "key_last_use_gap",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key_arn", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_key_last_use_gap")),
    )
    with op.batch_alter_table("key_last_use_gap", schema=None) as batch_op:
        batch_op.create_index(
            "uq_key_last_use_gap_open",
            ["key_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("key_last_use_gap", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_key_last_use_gap_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("key_last_use_gap")

    with op.batch_alter_table("key_last_use_asked", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_key_last_use_asked_account_id_region"))
    op.drop_table("key_last_use_asked")

    with op.batch_alter_table("key_last_use", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_key_last_use_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("key_last_use")
