"""Runs that are limited to accounts or regions, and the earlier run that read what they did not.

Revision: 0010
After: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("run", sa.Column("only_accounts", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("only_regions", sa.Text(), nullable=True))
    op.add_column("scope_coverage", sa.Column("read_run_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("scope_coverage", "read_run_id")
    op.drop_column("run", "only_regions")
    op.drop_column("run", "only_accounts")
