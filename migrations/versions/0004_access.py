"""Add the results of the access analysis.

Revision: 0004
After: 0003
"""

from __future__ import annotations

from migrations.schema import create_fact_table, create_table, digest, drop_tables, integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_table(
        "access_analysis",
        ["analysis_id"],
        digest("analysis_id"),
        text("path"),
        digest("policy_hash", "policy_analysis_id", null=True),
        text("engine"),
    )
    create_table(
        "access_hygiene",
        ["analysis_id", "n"],
        digest("analysis_id"),
        integer("n"),
        text("code", "via"),
        integer("position", null=True),
        text("sentence"),
    )
    create_table("access_policy", ["policy_hash"], digest("policy_hash"), text("looks", "denies"))
    create_table("access_state", ["name"], text("name"), integer("version_id"), text("identity"))
    create_table(
        "access_verdict",
        ["analysis_id", "n"],
        digest("analysis_id"),
        integer("n"),
        text("access", "principal"),
        text("principal_account", null=True),
        text("operations", "via"),
        integer("position", null=True),
        text("scope", "reason"),
        text("witness", null=True),
        text("sentence"),
    )
    create_fact_table("key_analysis", ["key_arn"], text("key_arn"), digest("analysis_id"))


def downgrade() -> None:
    drop_tables("key_analysis", "access_verdict", "access_state", "access_policy", "access_hygiene", "access_analysis")
