"""Create the ledger.

Revision: 0001
After: nothing
"""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema import boolean, create_fact_table, create_table, digest, drop_tables, integer, text, time

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_fact_table(
        "account",
        ["account_id"],
        text("account_id"),
        text("name", "email", "arn", "state", "ou_path", "ou_ids", null=True),
        time("joined_at", null=True),
        boolean("is_management"),
        text("selection"),
    )
    create_fact_table("account_region", ["account_id", "region"], text("account_id", "region", "status", "selection"))
    create_fact_table(
        "alias",
        ["alias_arn"],
        text("alias_arn", "alias_name", "account_id", "region"),
        text("target_key_id", "target_key_arn", null=True),
        time("created_at", "updated_at", null=True),
        listing=["account_id", "region"],
    )
    create_fact_table(
        "custom_key_store",
        ["account_id", "region", "store_id"],
        text("account_id", "region", "store_id"),
        text(
            "name",
            "store_type",
            "connection_state",
            "connection_error",
            "cloud_hsm_cluster_id",
            "xks_connectivity",
            null=True,
        ),
        time("created_at", null=True),
    )
    create_fact_table(
        "finding",
        ["rule_id", "resource_arn"],
        text("rule_id", "resource_arn"),
        text("account_id", "region", "key_arn", null=True),
        text("severity", "status", "reason"),
    )
    create_fact_table(
        "gap",
        ["account_id", "region", "service", "operation", "subject"],
        text("account_id", "region", "service", "operation", "subject", "action", "cause", "code", "message"),
    )
    create_fact_table(
        "key", ["key_arn"], text("key_arn", "key_id", "account_id", "region"), listing=["account_id", "region"]
    )
    create_fact_table(
        "key_grant",
        ["key_arn", "grant_id"],
        text("key_arn", "grant_id"),
        text(
            "name",
            "grantee_principal",
            "grantee_service_principal",
            "retiring_principal",
            "retiring_service_principal",
            "issuing_account",
            null=True,
        ),
        text("operations"),
        text("constraints", null=True),
        time("created_at", null=True),
    )
    create_fact_table(
        "key_metadata",
        ["key_arn"],
        text("key_arn"),
        text("manager", "state", null=True),
        boolean("enabled", null=True),
        text("description", "key_usage", "key_spec", "origin", null=True),
        time("created_at", "deletion_date", null=True),
        integer("pending_window_days", null=True),
        time("material_expires_at", null=True),
        text("expiration_model", null=True),
        boolean("multi_region", null=True),
        text(
            "multi_region_type",
            "primary_arn",
            "replica_arns",
            "custom_key_store_id",
            "cloud_hsm_cluster_id",
            "xks_key_id",
            "key_material_id",
            "algorithms",
            null=True,
        ),
    )
    create_fact_table("key_policy", ["key_arn"], text("key_arn"), digest("policy_hash"))
    create_fact_table(
        "key_reference",
        ["resource_arn", "role", "position"],
        text("resource_arn", "role"),
        integer("position"),
        text("form"),
        text("encryption", "raw", "target_arn", "target_account", "target_region", "stated_class", "reason", null=True),
    )
    create_fact_table(
        "key_rotation",
        ["key_arn"],
        text("key_arn", "status"),
        text("reason", null=True),
        integer("period_days", null=True),
        time("next_rotation_at", "on_demand_started_at", null=True),
    )
    create_fact_table(
        "key_rotation_event",
        ["key_arn", "rotated_at"],
        text("key_arn"),
        time("rotated_at"),
        text("rotation_type", "key_material_id", "key_material_state", null=True),
    )
    create_fact_table(
        "key_usage",
        ["resource_arn", "role", "position"],
        text("resource_arn", "role"),
        integer("position"),
        text("key_arn", null=True),
        text("key_class"),
        text("reason", null=True),
    )
    create_table("policy_document", ["policy_hash"], digest("policy_hash"), text("canonical", "received"))
    create_fact_table(
        "resource",
        ["resource_arn"],
        text("resource_arn", "resource_type", "account_id", "region", "listed_in", "name"),
        text("status", "encryption", null=True),
        time("created_at", "deletion_at", null=True),
        text("details", null=True),
        listing=["account_id", "listed_in", "resource_type"],
    )
    create_table(
        "run",
        ["run_id"],
        integer("run_id"),
        time("started_at"),
        time("finished_at", null=True),
        text("status", "version"),
        text("caller_arn", "partition", "organization_id", "management_account_id", null=True),
        integer("accounts", "scopes", "calls", "gaps"),
        text("message", null=True),
    )
    create_fact_table("tag", ["resource_arn", "tag_key"], text("resource_arn", "tag_key", "tag_value"))
    create_table(
        "crawl_lock",
        ["lock_id"],
        [sa.Column("lock_id", sa.Integer(), autoincrement=False, nullable=False)],
        integer("run_id"),
        text("host"),
        integer("process_id"),
        time("since", "heartbeat"),
        of_run=True,
    )
    create_table(
        "delivery",
        ["run_id", "report", "recipient"],
        integer("run_id"),
        text("report", "recipient", "status", "detail"),
        time("sent_at"),
        of_run=True,
    )
    create_table(
        "scope_run",
        ["run_id", "account_id", "region"],
        integer("run_id"),
        text("account_id", "region", "outcome"),
        text("reason", null=True),
        time("started_at", "finished_at", null=True),
        integer("calls", "retries", "gaps"),
        of_run=True,
    )


def downgrade() -> None:
    drop_tables(
        "scope_run",
        "delivery",
        "crawl_lock",
        "tag",
        "run",
        "resource",
        "policy_document",
        "key_usage",
        "key_rotation_event",
        "key_rotation",
        "key_reference",
        "key_policy",
        "key_metadata",
        "key_grant",
        "key",
        "gap",
        "finding",
        "custom_key_store",
        "alias",
        "account_region",
        "account",
    )
