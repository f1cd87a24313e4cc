"""Add the IAM of accounts and resource policies.

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "iam_attachment",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_arn", sa.Text(), nullable=False),
        sa.Column("policy_arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_attachment")),
    )
    with op.batch_alter_table("iam_attachment", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_attachment_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_attachment_open",
            ["owner_arn", "policy_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_group",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("unique_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_group")),
    )
    with op.batch_alter_table("iam_group", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_group_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_group_open",
            ["arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_inline_policy",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_arn", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_inline_policy")),
    )
    with op.batch_alter_table("iam_inline_policy", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_inline_policy_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_inline_policy_open",
            ["owner_arn", "name"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_listing",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_listing")),
    )
    with op.batch_alter_table("iam_listing", schema=None) as batch_op:
        batch_op.create_index(
            "uq_iam_listing_open",
            ["account_id"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_managed_policy",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("policy_arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_version", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_managed_policy")),
    )
    with op.batch_alter_table("iam_managed_policy", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_managed_policy_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_managed_policy_open",
            ["policy_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_membership",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("user_arn", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_membership")),
    )
    with op.batch_alter_table("iam_membership", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_membership_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_membership_open",
            ["user_arn", "group_name"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "iam_principal",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("arn", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("unique_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("permissions_boundary_arn", sa.Text(), nullable=True),
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_iam_principal")),
    )
    with op.batch_alter_table("iam_principal", schema=None) as batch_op:
        batch_op.create_index(
            "ix_iam_principal_account_id",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.create_index(
            "uq_iam_principal_open",
            ["arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.create_table(
        "resource_policy",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("resource_arn", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_resource_policy")),
    )
    with op.batch_alter_table("resource_policy", schema=None) as batch_op:
        batch_op.create_index(
            "uq_resource_policy_open",
            ["resource_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("resource_policy", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_resource_policy_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("resource_policy")

    with op.batch_alter_table("iam_principal", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_principal_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_principal_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_principal")

    with op.batch_alter_table("iam_membership", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_membership_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_membership_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_membership")

    with op.batch_alter_table("iam_managed_policy", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_managed_policy_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_managed_policy_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_managed_policy")

    with op.batch_alter_table("iam_listing", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_listing_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_listing")

    with op.batch_alter_table("iam_inline_policy", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_inline_policy_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_inline_policy_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_inline_policy")

    with op.batch_alter_table("iam_group", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_group_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_group_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_group")

    with op.batch_alter_table("iam_attachment", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_iam_attachment_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
        batch_op.drop_index(
            "ix_iam_attachment_account_id",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("iam_attachment")
