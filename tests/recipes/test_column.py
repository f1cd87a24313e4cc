"""The recipe "A column": the table, a migration and the view."""

from __future__ import annotations

import re

import pytest

from tests.recipes.scratch import Scratch

MIGRATION = '''"""The old name of a key's spec.

Revision: {revision}
After: {last}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{last}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("key_metadata", sa.Column("customer_master_key_spec", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("key_metadata", "customer_master_key_spec")
'''
CRAWL = """
import datetime as dt
from crawler.services.kms import _metadata
from crawler.spec import Scope, Subject
from models.store.scd2_merge import Batch
from models.tables import KeyMetadata

batch = Batch()
subject = Subject(Scope("111122223333", "eu-west-1"), "eu-west-1", "arn", {"managed": None})
_metadata(subject, {"Arn": "arn", "CustomerMasterKeySpec": "RSA_2048"}, batch)
print(batch.rows[KeyMetadata][0]["customer_master_key_spec"])
"""


@pytest.mark.deep
def test_a_column_of_keys_is_three_files(scratch: Scratch) -> None:
    """A new member of DescribeKey is stored, migrated, shown by the view `keys` and documented by one command."""
    views = scratch.root / "reports/mart/views"
    (view,) = (
        f"reports/mart/views/{path.name}" for path in views.iterdir() if re.fullmatch(r"\d+_keys\.sql", path.name)
    )
    last = max(path.stem for path in (scratch.root / "migrations/versions").glob("[0-9]*.py")).partition("_")[0]
    revision = f"{int(last) + 1:04}"
    table, migration = "models/tables/keys.py", f"migrations/versions/{revision}_key_spec.py"
    scratch.insert(table, "    custom_key_store_id: Mapped", "    customer_master_key_spec: Mapped[str | None]\n")
    scratch.create(migration, MIGRATION.format(revision=revision, last=last))
    scratch.insert(view, "--: custom_key_store_id |", "--: customer_master_key_spec | The spec under its old name.\n")
    scratch.insert(view, "k.custom_key_store_id,", "  k.customer_master_key_spec,\n")
    assert scratch.python("-c", CRAWL) == "RSA_2048\n"
    scratch.pytest("tests/models/test_migrations.py", "-k", "sqlite and (migrations_match or downgrade_removes)")
    scratch.kmsledger("schema", "--format", "markdown", "--output", "docs/schema.md")
    assert "| `customer_master_key_spec` |" in (scratch.root / "docs/schema.md").read_text(encoding="utf-8")
    scratch.pytest("tests/reports/mart/test_schema.py")
    assert scratch.added == {table: 1, migration: 15, view: 2}
