"""Add CloudTrail trails, their status and event selectors, and shadow trails.

Revision: 0005
After: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trail",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("trail_arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("global_events", sa.Boolean(), nullable=True),
        sa.Column("log_group", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("home_region", sa.Text(), nullable=False),
        sa.Column("is_multi_region", sa.Boolean(), nullable=True),
        sa.Column("is_organization", sa.Boolean(), nullable=True),
        sa.Column("log_validation", sa.Boolean(), nullable=True),
        sa.Column("kms_key", sa.Text(), nullable=True),
        sa.Column("bucket", sa.Text(), nullable=True),
        sa.Column("has_custom_selectors", sa.Boolean(), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_trail")),
    )
    with op.batch_alter_table("trail", schema=None) as batch_op:
        batch_op.create_index(
            "ix_trail_account_id_region",
            ["account_id", "region"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_trail_open",
            ["trail_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "trail_listing",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_trail_listing")),
    )
    with op.batch_alter_table("trail_listing", schema=None) as batch_op:
        batch_op.create_index(
            "uq_trail_listing_open",
            ["account_id", "region"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "trail_selector",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("trail_arn", sa.Text(), nullable=False),
        sa.Column("selectors", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_trail_selector")),
    )
    with op.batch_alter_table("trail_selector", schema=None) as batch_op:
        batch_op.create_index(
            "uq_trail_selector_open",
            ["trail_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "trail_shadow",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("trail_arn", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("home_region", sa.Text(), nullable=False),
        sa.Column("is_multi_region", sa.Boolean(), nullable=True),
        sa.Column("is_organization", sa.Boolean(), nullable=True),
        sa.Column("log_validation", sa.Boolean(), nullable=True),
        sa.Column("kms_key", sa.Text(), nullable=True),
        sa.Column("bucket", sa.Text(), nullable=True),
        sa.Column("has_custom_selectors", sa.Boolean(), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_trail_shadow")),
    )
    with op.batch_alter_table("trail_shadow", schema=None) as batch_op:
        batch_op.create_index(
            "uq_trail_shadow_open",
            ["account_id", "region", "trail_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "trail_status",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("trail_arn", sa.Text(), nullable=False),
        sa.Column("logging", sa.Boolean(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivery_error", sa.Text(), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_trail_status")),
    )
    with op.batch_alter_table("trail_status", schema=None) as batch_op:
        batch_op.create_index(
            "uq_trail_status_open",
            ["trail_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("trail_status", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trail_status_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("trail_status")
    with op.batch_alter_table("trail_shadow", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trail_shadow_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("trail_shadow")
    with op.batch_alter_table("trail_selector", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trail_selector_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("trail_selector")
    with op.batch_alter_table("trail_listing", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trail_listing_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("trail_listing")
    with op.batch_alter_table("trail", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_trail_open", sqlite_where=sa.text("valid_to IS NULL"), postgresql_where=sa.text("valid_to IS NULL")
        )
        batch_op.drop_index(
            "ix_trail_account_id_region",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("trail")
