"""Keep only current and past problems as findings, add waivers, and add counts of results by rule, account and region.

Findings that always passed are deleted; counts of passes start with the next run.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rule_result",
        sa.Column("version_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("not_applicable", sa.Integer(), nullable=False),
        sa.Column("waived", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.Integer(), nullable=False),
        sa.Column("valid_to", sa.Integer(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_rule_result")),
    )
    with op.batch_alter_table("rule_result", schema=None) as batch_op:
        batch_op.create_index(
            "uq_rule_result_open",
            ["rule_id", "account_id", "region"],
            unique=True,
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.execute(
        "DELETE FROM finding WHERE status IN ('pass', 'not_applicable') AND (rule_id, resource_arn) NOT IN "
        "(SELECT rule_id, resource_arn FROM finding WHERE status NOT IN ('pass', 'not_applicable'))"
    )
    op.add_column("finding", sa.Column("verdict", sa.Text(), nullable=True))
    op.add_column("finding", sa.Column("waiver", sa.Text(), nullable=True))
    op.execute("UPDATE finding SET verdict = status")
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.alter_column("verdict", existing_type=sa.Text(), nullable=False)


def downgrade() -> None:
    op.execute("UPDATE finding SET status = verdict")
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.drop_column("waiver")
        batch_op.drop_column("verdict")
    with op.batch_alter_table("rule_result", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_rule_result_open",
            sqlite_where=sa.text("valid_to IS NULL"),
            postgresql_where=sa.text("valid_to IS NULL"),
        )
    op.drop_table("rule_result")
