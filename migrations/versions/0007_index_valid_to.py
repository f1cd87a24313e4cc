"""Index closed versions by the run that closed them, so that an incremental build reads only these.

Revision: 0007
After: 0006
"""

from __future__ import annotations

from alembic import op

from migrations.schema import FACT_TABLES, create_partial_index

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for name in FACT_TABLES:
        create_partial_index(f"ix_{name}_valid_to", name, ["valid_to"], "valid_to IS NOT NULL")


def downgrade() -> None:
    for name in FACT_TABLES:
        op.drop_index(f"ix_{name}_valid_to", table_name=name)
