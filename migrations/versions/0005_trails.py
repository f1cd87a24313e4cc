"""Add CloudTrail trails, their status and event selectors, and shadow trails.

Revision: 0005
After: 0004
"""

from __future__ import annotations

from migrations.schema import boolean, create_fact_table, drop_tables, text, time

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    create_fact_table(
        "trail",
        ["trail_arn"],
        text("trail_arn", "account_id", "region"),
        boolean("global_events", null=True),
        text("log_group", "name", null=True),
        text("home_region"),
        boolean("is_multi_region", "is_organization", "log_validation", null=True),
        text("kms_key", "bucket", null=True),
        boolean("has_custom_selectors", null=True),
        listing=["account_id", "region"],
    )
    create_fact_table("trail_listing", ["account_id", "region"], text("account_id", "region"))
    create_fact_table("trail_selector", ["trail_arn"], text("trail_arn", "selectors"))
    create_fact_table(
        "trail_shadow",
        ["account_id", "region", "trail_arn"],
        text("account_id", "region", "trail_arn"),
        text("name", null=True),
        text("home_region"),
        boolean("is_multi_region", "is_organization", "log_validation", null=True),
        text("kms_key", "bucket", null=True),
        boolean("has_custom_selectors", null=True),
    )
    create_fact_table(
        "trail_status",
        ["trail_arn"],
        text("trail_arn"),
        boolean("logging", null=True),
        time("started_at", "stopped_at", null=True),
        text("delivery_error", null=True),
    )


def downgrade() -> None:
    drop_tables("trail_status", "trail_shadow", "trail_selector", "trail_listing", "trail")
