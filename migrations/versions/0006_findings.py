"""Keep only current and past problems as findings, add waivers, and add counts of results by rule, account and region.

Findings that always passed are deleted; counts of passes start with the next run.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.schema import create_fact_table, drop_tables, integer, text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    create_fact_table(
        "rule_result",
        ["rule_id", "account_id", "region"],
        text("rule_id", "account_id", "region"),
        integer("passed", "failed", "unknown", "not_applicable", "waived"),
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
    drop_tables("rule_result")
