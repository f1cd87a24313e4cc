"""Add the IAM of accounts and resource policies.

Revision: 0003
After: 0002
"""

from __future__ import annotations

from migrations.schema import create_fact_table, digest, drop_tables, text, time

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_fact_table(
        "iam_attachment",
        ["owner_arn", "policy_arn"],
        text("owner_arn", "policy_arn", "account_id"),
        listing=["account_id"],
    )
    create_fact_table(
        "iam_group",
        ["arn"],
        text("arn", "account_id", "name"),
        text("path", "unique_id", null=True),
        time("created_at", null=True),
        listing=["account_id"],
    )
    create_fact_table(
        "iam_inline_policy",
        ["owner_arn", "name"],
        text("owner_arn", "name", "account_id"),
        digest("policy_hash"),
        listing=["account_id"],
    )
    create_fact_table("iam_listing", ["account_id"], text("account_id"))
    create_fact_table(
        "iam_managed_policy",
        ["policy_arn"],
        text("policy_arn", "account_id", "name", "default_version"),
        digest("policy_hash"),
        listing=["account_id"],
    )
    create_fact_table(
        "iam_membership",
        ["user_arn", "group_name"],
        text("user_arn", "group_name", "account_id"),
        listing=["account_id"],
    )
    create_fact_table(
        "iam_principal",
        ["arn"],
        text("arn", "account_id", "type", "name"),
        text("path", "unique_id", null=True),
        time("created_at", null=True),
        text("permissions_boundary_arn", null=True),
        digest("policy_hash", null=True),
        listing=["account_id"],
    )
    create_fact_table("resource_policy", ["resource_arn"], text("resource_arn"), digest("policy_hash", null=True))


def downgrade() -> None:
    drop_tables(
        "resource_policy",
        "iam_principal",
        "iam_membership",
        "iam_managed_policy",
        "iam_listing",
        "iam_inline_policy",
        "iam_group",
        "iam_attachment",
    )
