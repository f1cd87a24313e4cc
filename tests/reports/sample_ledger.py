"""A fictional organization over three runs, with every case that answers must handle.

Run 1 is the first crawl; before run 2 account Payments joins and is crawled for the first time; run 3 has the five
changes that reports must show: a key scheduled for deletion, a policy opened to a vendor, an
alias moved, a secret with another key, a tag removed.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from models.tables import AccountRegion, Alias, CustomKeyStore, KeyMetadata, KeyRotationEvent, Tag
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import LedgerBuilder

SHOP = "111122223333"
DATA = "444455556666"
PAYMENTS = "000123456789"
LOCKED = "222233334444"
CLOSED = "777788889999"
MANAGEMENT = "123456789012"
STRANGER = "999900001111"
VENDOR = "754581900792"
IRELAND, VIRGINIA = "eu-west-1", "us-east-1"

HOSTILE = "<script>alert('x')</script>\"&\n=cmd|' /C calc'!A0"
MONTH = dt.datetime(2026, 10, 22, 12, 0, tzinfo=dt.UTC)


def sample_ledger(path: Path) -> str:
    """Write the sample organization's three runs into a new SQLite file; returns its database URL."""
    world = sample_world(path)
    world.crawl()
    second_run(world)
    world.crawl()
    third_run(world)
    world.crawl()
    return world.url


def sample_world(path: Path) -> LedgerBuilder:
    """The organization as of the first run."""
    world = LedgerBuilder(f"sqlite:///{path}")
    world.account(MANAGEMENT, "Example Organization", VIRGINIA, is_management=True, ou_path="/", ou_ids="r-abcd")
    world.account(SHOP, "Shop", IRELAND, VIRGINIA, "global")
    world.account(DATA, "R&D <img src=x onerror=alert(1)>", IRELAND, ou_path="/Research & <b>Data</b>")
    world.account(LOCKED, "Locked", IRELAND)
    world.account(CLOSED, "Old", state="SUSPENDED", selection="suspended")
    world.outcomes[CLOSED, "*"] = ("suspended", "the account is suspended")
    world.outcomes[LOCKED, IRELAND] = ("failed", "the role does not exist or does not trust the crawler")
    world.gap(LOCKED, IRELAND, "sts:AssumeRole", cause="role_missing_or_untrusted", code="AccessDenied")
    world.add(AccountRegion, account_id=SHOP, region="af-south-1", status="DISABLED", selection="disabled")
    world.outcomes[SHOP, "af-south-1"] = ("disabled", "the region is not enabled in the account")
    _shop(world)
    _data(world)
    return world


def second_run(world: LedgerBuilder) -> None:
    """Account Payments joins; nothing else changes."""
    world.account(PAYMENTS, "Payments", IRELAND, joined_at=dt.datetime(2026, 11, 20, 15, 0, tzinfo=dt.UTC))
    ledger = world.key(PAYMENTS, IRELAND, "00000000-0000-4000-8000-000000000009", description="card numbers")
    world.alias("alias/payments", ledger)
    world.tag(ledger, Owner="payments")
    world.grant(
        ledger,
        "00ff" * 16,
        name="pay",
        grantee_service_principal="dynamodb.eu-west-1.amazonaws.com",
        issuing_account=None,
    )
    secret = world.secret(PAYMENTS, IRELAND, "payments/psp")
    world.uses(secret, ledger, role="secret")


def third_run(world: LedgerBuilder) -> None:
    """The five changes."""
    fresh = _arn(SHOP, 3)
    due = dt.datetime(2026, 12, 21, 22, 10, tzinfo=dt.UTC)
    world.change(KeyMetadata, _arn(SHOP, 2), state="PendingDeletion", enabled=False, deletion_date=due)
    world.policy(_arn(DATA, 5), [root_statement(DATA), vendor_statement(VENDOR)])
    world.alias("alias/orders", fresh, updated_at=dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC))
    secret = f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:shop/db-AbCdEf"
    world.uses(
        secret, fresh, role="secret", raw_value="alias/orders", format="alias_name", target_arn=_alias("alias/orders")
    )
    world.remove(Tag, _arn(SHOP, 8), "DataTier")


def vendor_statement(account_id: str) -> dict[str, Any]:
    """A statement that lets another account use the key."""
    return {
        "Sid": "Vendor",
        "Effect": "Allow",
        "Principal": {"AWS": account_id},
        "Action": ["kms:Decrypt", "kms:Encrypt"],
        "Resource": "*",
    }


def _arn(account_id: str, number: int, region: str = IRELAND) -> str:
    return f"arn:aws:kms:{region}:{account_id}:key/00000000-0000-4000-8000-{number:012d}"


def _alias(name: str, account_id: str = SHOP) -> str:
    return f"arn:aws:kms:{IRELAND}:{account_id}:{name}"


def _shop(world: LedgerBuilder) -> None:
    def key(number: int, region: str = IRELAND, **values: Any) -> str:
        return world.key(SHOP, region, _arn(SHOP, number).rpartition("/")[2], **values)

    orders = key(1, description="orders database")
    invoices = key(2, description="invoices", rotation="disabled")
    key(3, description="orders, new key", created_at=MONTH)
    disabled = key(4, state="Disabled", description=HOSTILE, policy="this is not JSON")
    secrets = key(
        6,
        manager="AWS",
        description="Default key that protects my Secrets Manager data",
        policy=[
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["kms:Decrypt", "kms:CreateGrant"],
                "Resource": "*",
                "Condition": {"StringEquals": {"kms:CallerAccount": SHOP, "kms:ViaService": "secretsmanager"}},
            }
        ],
    )
    key(7, VIRGINIA, key_spec="RSA_4096", rotation="not_applicable", description="signing", key_usage="SIGN_VERIFY")
    everywhere = key(
        8,
        multi_region=True,
        multi_region_type="PRIMARY",
        primary_arn=_arn(SHOP, 8),
        replica_arns=f'["{_arn(SHOP, 8, VIRGINIA)}"]',
    )
    key(8, VIRGINIA, multi_region=True, multi_region_type="REPLICA", primary_arn=_arn(SHOP, 8), replica_arns="[]")
    for name, target in (
        ("alias/orders", orders),
        ("alias/invoices", invoices),
        ("alias/archive/2019", disabled),
        ("alias/everywhere", everywhere),
        ("alias/aws/secretsmanager", secrets),
    ):
        world.alias(name, target)
    world.add(
        Alias,
        alias_arn=_alias("alias/aws/rds"),
        alias_name="alias/aws/rds",
        account_id=SHOP,
        region=IRELAND,
    )
    world.tag(orders, DataTier="database", Owner="shop")
    world.tag(everywhere, DataTier="database")
    world.tag(disabled, **{"=1+1": HOSTILE, "Owner": "+49 30 1234"})
    world.add(KeyRotationEvent, key_arn=orders, rotated_at=MONTH, rotation_type="AUTOMATIC")
    world.grant(
        invoices,
        "ab12" * 16,
        name="rds",
        grantee_principal=f"arn:aws:sts::{SHOP}:assumed-role/aws:ec2-infrastructure/i-0abc",
        retiring_principal="rds.eu-west-1.amazonaws.com",
        constraints='{"EncryptionContextSubset":{"aws:rds:db-id":"db-INVOICES"}}',
    )
    world.grant(orders, "cd34" * 16, name=HOSTILE, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    secret = world.secret(SHOP, IRELAND, "shop/db")
    world.uses(secret, secrets, "aws_managed", role="secret", raw_value=None)
    old = world.secret(SHOP, IRELAND, "shop/old", deletion_at=dt.datetime(2026, 11, 28, tzinfo=dt.UTC))
    lost = _arn(SHOP, 99)
    world.uses(old, lost, "dangling", role="secret", reason="no such key in the account and region")
    world.database(SHOP, IRELAND, "orders", encryption="true")
    world.uses(f"arn:aws:rds:{IRELAND}:{SHOP}:db:orders", orders)
    inaccessible = world.database(
        SHOP, IRELAND, "archive", status="inaccessible-encryption-credentials-recoverable", encryption="true"
    )
    world.uses(inaccessible, disabled)
    plain = world.database(SHOP, IRELAND, "scratch", encryption="false")
    world.uses(plain, None, "none")
    invoicing = world.database(SHOP, IRELAND, "invoicing", encryption="true")
    world.uses(invoicing, invoices)
    world.uses(invoicing, invoices, role="performance-insights")
    for name, key_arn, key_class, encryption in (
        ("shop-invoices", invoices, "customer", "aws:kms"),
        ("shop-assets", None, "aws_owned", "AES256"),
        ("shop-partner", _arn(STRANGER, 1), "not_crawled", "aws:kms"),
    ):
        bucket = world.resource(
            f"arn:aws:s3:::{name}",
            "AWS::S3::Bucket",
            name,
            account_id=SHOP,
            region=IRELAND,
            listing_region="global",
            encryption=encryption,
            details='{"BucketKeyEnabled":true}',
        )
        world.uses(bucket, key_arn, key_class)
    hidden = world.resource(
        "arn:aws:s3:::shop-hidden",
        "AWS::S3::Bucket",
        "shop-hidden",
        account_id=SHOP,
        region=IRELAND,
        listing_region="global",
    )
    world.gap(SHOP, "global", "s3:GetEncryptionConfiguration", hidden, "explicit_deny", code="AccessDenied")


def _data(world: LedgerBuilder) -> None:
    lake = world.key(DATA, IRELAND, _arn(DATA, 5).rpartition("/")[2], description="data lake")
    world.alias("alias/lake", lake)
    external = world.key(
        DATA,
        IRELAND,
        "00000000-0000-4000-8000-000000000010",
        origin="EXTERNAL",
        rotation="not_applicable",
        expiration_model="KEY_MATERIAL_EXPIRES",
        material_expires_at=dt.datetime(2026, 12, 24, tzinfo=dt.UTC),
        policy=[
            root_statement(DATA),
            {
                "Sid": "Everyone",
                "Effect": "Allow",
                "Principal": "*",
                "Action": "kms:Decrypt",
                "Resource": "*",
            },
            {"Effect": "Allow", "Principal": {"AWS": "AROAEXAMPLEEXAMPLE123"}, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Allow", "Principal": {"Service": "logs.amazonaws.com"}, "Action": "kms:Encrypt"},
        ],
    )
    world.alias("alias/import", external)
    locked = world.key(DATA, IRELAND, "00000000-0000-4000-8000-000000000011", policy=None, rotation="unknown")
    for action in ("kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyRotationStatus"):
        world.gap(DATA, IRELAND, action, locked, "key_policy", message=HOSTILE)
    world.add(
        CustomKeyStore,
        account_id=DATA,
        region=IRELAND,
        store_id="cks-1234567890abcdef0",
        name="hsm",
        store_type="AWS_CLOUDHSM",
        connection_state="FAILED",
        connection_error="CLUSTER_NOT_FOUND",
        cloud_hsm_cluster_id="cluster-abcdefghijk",
    )
    world.key(
        DATA,
        IRELAND,
        "00000000-0000-4000-8000-000000000012",
        origin="AWS_CLOUDHSM",
        state="Unavailable",
        custom_key_store_id="cks-1234567890abcdef0",
        rotation="not_applicable",
    )
