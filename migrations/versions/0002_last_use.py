"""Add the last use of keys, its gaps, and the time of the last poll of each key.

Revision: 0002
After: 0001
"""

from __future__ import annotations

from alembic import op

from migrations.schema import create_fact_table, create_table, drop_tables, integer, text, time

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_fact_table(
        "key_last_use",
        ["key_arn"],
        text("key_arn"),
        text("operation", null=True),
        time("used_at", null=True),
        text("cloudtrail_event_id", null=True),
        time("tracking_started_at", "key_created_at", null=True),
    )
    create_table(
        "key_last_use_asked", ["key_arn"], text("key_arn", "account_id", "region"), time("asked_at"), integer("run_id")
    )
    op.create_index("ix_key_last_use_asked_account_id_region", "key_last_use_asked", ["account_id", "region"])
    create_fact_table("key_last_use_gap", ["key_arn"], text("key_arn", "action", "cause", "code", "message"))


def downgrade() -> None:
    drop_tables("key_last_use_gap", "key_last_use_asked", "key_last_use")
