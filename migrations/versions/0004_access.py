"""Add the results of the access analysis.

Revision: 0004
After: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_analysis",
        sa.Column("analysis_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("policy_analysis_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", name=op.f("pk_access_analysis")),
    )
    op.create_table(
        "access_hygiene",
        sa.Column("analysis_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "n", name=op.f("pk_access_hygiene")),
    )
    op.create_table(
        "access_policy",
        sa.Column("policy_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("looks", sa.Text(), nullable=False),
        sa.Column("denies", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("policy_hash", name=op.f("pk_access_policy")),
    )
    op.create_table(
        "access_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_access_state")),
    )
    op.create_table(
        "access_verdict",
        sa.Column("analysis_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("access", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("principal_account", sa.Text(), nullable=True),
        sa.Column("operations", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("witness", sa.Text(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "n", name=op.f("pk_access_verdict")),
    )
    op.create_table(
        "key_analysis",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key_arn", sa.Text(), nullable=False),
        sa.Column("analysis_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_key_analysis")),
    )
    with op.batch_alter_table("key_analysis", schema=None) as batch_op:
        batch_op.create_index(
            "uq_key_analysis_open",
            ["key_arn"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("key_analysis", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_key_analysis_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )

    op.drop_table("key_analysis")
    op.drop_table("access_verdict")
    op.drop_table("access_state")
    op.drop_table("access_policy")
    op.drop_table("access_hygiene")
    op.drop_table("access_analysis")
