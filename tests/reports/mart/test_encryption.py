"""What the views say about the encryption of resources."""

from __future__ import annotations

from typing import Any

import pytest

from reports.mart.build import build
from reports.mart.connection import connect
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, settings_of

CLUSTER = "AWS::RDS::DBCluster"


@pytest.fixture(scope="module")
def encryption(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of resource_encryption by name and role, over one ledger; usability is from key_usability."""
    path = tmp_path_factory.mktemp("encryption")
    world = LedgerBuilder(f"sqlite:///{path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    key = world.key(SHOP, IRELAND, "k1")

    def cluster(name: str, **values: Any) -> str:
        arn = f"arn:aws:rds:{IRELAND}:{SHOP}:cluster:{name}"
        return world.resource(arn, CLUSTER, name, account_id=SHOP, region=IRELAND, **values)

    def member(name: str, of: str, **values: Any) -> str:
        return world.database(SHOP, IRELAND, name, details=f'{{"cluster":"{of}"}}', **values)

    none: Any = {"raw_value": None, "format": "omitted"}
    world.uses(cluster("owned", encryption="sse-rds"), None, "aws_owned", **none)
    world.uses(member("of-owned", "owned", encryption="false"), None, "none", **none)
    world.uses(cluster("plain", encryption="none"), None, "none", **none)
    world.uses(member("of-plain", "plain", encryption="false"), None, "none", **none)
    world.uses(cluster("keyed", encryption="sse-kms"), key)
    world.uses(member("of-keyed", "keyed", encryption="true"), key)
    world.uses(member("of-unread", "unread", encryption="false"), None, "none", **none)
    world.uses(world.database(SHOP, IRELAND, "flag", encryption="true"), None, "aws_owned", **none)
    settings = settings_of(database=world.url, report={"mart": path / "mart.duckdb"})
    world.crawl()
    build(settings.database, settings.report.mart, settings)
    with connect(settings.report.mart) as mart:
        query = mart.execute(
            "SELECT e.*, u.usability, u.reason FROM resource_encryption e JOIN key_usability u USING (resource_arn)"
        )
        columns = [column[0] for column in query.description]
        rows = [dict(zip(columns, row, strict=True)) for row in query.fetchall()]
    return {(row["name"], row["role"]): row for row in rows}


@pytest.mark.parametrize(
    ("name", "encrypted", "key_class", "usability"),
    [
        ("of-owned", True, "aws_owned", "usable"),
        ("of-plain", False, "none", "no_key"),
        ("of-keyed", True, "customer", "usable"),
        ("of-unread", None, "unknown", "unknown"),
    ],
)
def test_a_member_has_the_encryption_of_its_cluster(
    encryption: dict[tuple[str, str], dict[str, Any]], name: str, encrypted: bool | None, key_class: str, usability: str
) -> None:
    """A member of a cluster shares its storage, whatever its own flag says (RDS: CreateDBInstance, StorageEncrypted)."""
    row = encryption[name, "storage"]
    assert (row["encrypted"], row["key_class"], row["usability"]) == (encrypted, key_class, usability)


def test_an_unread_cluster_leaves_its_members_unknown(encryption: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The reason names the cluster."""
    assert (
        "it uses the storage of cluster unread, which was not read"
        in encryption["of-unread", "storage"]["encrypted_reason"]
    )


def test_a_reason_names_the_encryption_only_if_it_is_a_type(encryption: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The types that a service reports appear in the reason, the flag does not."""
    assert encryption["owned", "storage"]["customer_managed_reason"] == "A key that AWS owns encrypts it (sse-rds)."
    assert encryption["flag", "storage"]["customer_managed_reason"] == "A key that AWS owns encrypts it."
