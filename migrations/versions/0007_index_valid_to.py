"""Index closed versions by the run that closed them, so that an incremental build reads only these.

Revision: 0007
After: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_FACETS = (
    "account",
    "account_region",
    "alias",
    "custom_key_store",
    "finding",
    "gap",
    "iam_attachment",
    "iam_group",
    "iam_inline_policy",
    "iam_listing",
    "iam_managed_policy",
    "iam_membership",
    "iam_principal",
    "key",
    "key_analysis",
    "key_grant",
    "key_last_use",
    "key_last_use_gap",
    "key_metadata",
    "key_policy",
    "key_reference",
    "key_rotation",
    "key_rotation_event",
    "key_usage",
    "resource",
    "resource_policy",
    "rule_result",
    "tag",
    "trail",
    "trail_listing",
    "trail_selector",
    "trail_shadow",
    "trail_status",
)


def upgrade() -> None:
    for name in _FACETS:
        op.create_index(
            f"ix_{name}_valid_to",
            name,
            ["valid_to"],
            unique=False,
            sqlite_where=sa.text("valid_to IS NOT NULL"),
            postgresql_where=sa.text("valid_to IS NOT NULL"),
        )


def downgrade() -> None:
    for name in _FACETS:
        op.drop_index(
            f"ix_{name}_valid_to",
            table_name=name,
            sqlite_where=sa.text("valid_to IS NOT NULL"),
            postgresql_where=sa.text("valid_to IS NOT NULL"),
        )
