"""The change log: the changes of each run, with their messages."""

from __future__ import annotations

import datetime as dt
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from models.settings import Settings
from models.tables import Account, Alias, CustomKeyStore, Gap, Key, KeyGrant, KeyMetadata, KeyRotation, Resource, Tag
from reports.mart.build import build
from reports.mart.connection import connect
from reports.rules.loader import load_rules
from reports.rules.testing.builders import root_statement
from tests.reports.conftest import RunQuery
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import vendor_statement

SHOP, IRELAND = "111122223333", "eu-west-1"


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """One account with one key of everything, not yet crawled."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    key = world.key(SHOP, IRELAND, "k1")
    world.key(SHOP, IRELAND, "k2")
    world.alias("alias/one", key)
    world.tag(key, Owner="me")
    world.grant(key, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    world.uses(world.secret(SHOP, IRELAND, "db"), key, role="secret")
    return world


K1, K2 = (f"arn:aws:kms:{IRELAND}:{SHOP}:key/{name}" for name in ("k1", "k2"))
SECRET = f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:db-AbCdEf"


def changes(world: LedgerBuilder, run_id: int | None = None, settings: Settings | None = None) -> list[tuple[Any, ...]]:
    path = Path(world.url.removeprefix("sqlite:///")).with_name(f"mart{world.runs}.duckdb")
    if not path.exists():  # there was a crawl after the last build
        offer_schema(path)
        build(world.url, path, settings or Settings())
    connection = connect(path)
    found = connection.execute(
        "SELECT event_type, severity, message FROM changes WHERE $run IS NULL OR run_id = $run ORDER BY ALL",
        {"run": run_id},
    ).fetchall()
    connection.close()
    return found


def sentences(world: LedgerBuilder) -> list[str]:
    return sorted(row[2] for row in changes(world))


def test_the_five_changes_of_the_sample(run_query: RunQuery) -> None:
    """The third run of the sample has exactly its five changes; the second only the new account."""
    assert run_query("SELECT message FROM changes WHERE run_id = 3 ORDER BY event_type") == [
        (
            (
                "Alias alias/orders moved from key 00000000-0000-4000-8000-000000000001 to key "
                "00000000-0000-4000-8000-000000000003."
            ),
        ),
        ("Key alias/invoices in Shop (111122223333, eu-west-1) was scheduled for deletion on 2026-12-21.",),
        ("The policy of key alias/lake was opened to account 754581900792 (Checkmarx): kms:Decrypt, kms:Encrypt.",),
        ("Secret shop/db now uses key alias/orders (was alias/aws/secretsmanager).",),
        ("Tag DataTier=database was removed from key alias/everywhere.",),
    ]
    assert run_query("SELECT event_type, subject FROM changes WHERE run_id < 3") == [("account_joined", "Payments")]
    assert run_query("SELECT event_type, severity FROM changes WHERE run_id = 3 ORDER BY 1") == [
        ("alias_moved", "medium"),
        ("deletion_scheduled", "critical"),
        ("policy_opened", "low"),
        ("rekeyed", "medium"),
        ("tag_removed", "medium"),
    ]


def test_a_change_is_as_severe_as_the_rule_about_its_result() -> None:
    """The severities of changes are those that the headers of the rules declare: one fact has one severity."""
    text = (files("reports.mart") / "change_queries" / "05_noun_macros.sql").read_text(encoding="utf-8")
    declared = dict(re.findall(r"WHEN '([a-z-]+)' THEN '([a-z]+)'$", text, re.MULTILINE))
    severities = {rule.rule_id: rule.severity for rule in load_rules(Settings())}
    assert len(declared) > 10
    assert declared == {rule_id: severities[rule_id] for rule_id in declared}


def test_an_unchanged_run_and_a_first_crawl_have_no_changes(world: LedgerBuilder) -> None:
    """The first run, an unchanged run and the first crawl of a region have no changes."""
    world.crawl()
    world.crawl()
    world.account(SHOP, "Shop", IRELAND, "us-east-1")
    other = world.key(SHOP, "us-east-1", "k3")
    world.alias("alias/three", other)
    world.tag(other, Owner="me")
    world.uses(world.secret(SHOP, "us-east-1", "three"), other, role="secret")
    world.crawl()
    assert changes(world) == []


def test_a_new_key_is_one_change_and_so_is_a_lost_one(world: LedgerBuilder) -> None:
    """Aliases, tags and grants of a created or deleted key are not separate changes."""
    world.crawl()
    key = world.key(SHOP, IRELAND, "k3")
    world.alias("alias/three", key)
    world.tag(key, Owner="me")
    world.grant(key, "g3", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    world.crawl()
    world.remove(Key, key)
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{SHOP}:alias/three")
    world.crawl()
    assert sentences(world) == [
        "Key alias/three in Shop (111122223333, eu-west-1) no longer exists.",
        "Key alias/three in Shop (111122223333, eu-west-1) was created.",
    ]


def test_states(world: LedgerBuilder) -> None:
    """Disabling, scheduling and canceling a deletion, with their severities."""
    world.crawl()
    for state, date in (
        ("Disabled", None),
        ("Enabled", None),
        ("PendingDeletion", dt.datetime(2026, 12, 24, tzinfo=dt.UTC)),
        ("Disabled", None),
    ):
        world.change(KeyMetadata, K1, state=state, deletion_date=date)
        world.crawl()
    key = "alias/one in Shop (111122223333, eu-west-1)"
    assert [changes(world, run) for run in (2, 3, 4, 5)] == [
        [("key_state", "critical", f"Key {key} is now in state Disabled (was Enabled).")],
        [("key_state", "low", f"Key {key} is now in state Enabled (was Disabled).")],
        [("deletion_scheduled", "critical", f"Key {key} was scheduled for deletion on 2026-12-24.")],
        [("deletion_cancelled", "medium", f"The deletion of key {key} was cancelled; its state is now Disabled.")],
    ]


def test_metadata_and_rotation(world: LedgerBuilder) -> None:
    """Metadata and rotation settings are changes; a scheduled rotation is not."""
    world.crawl()
    world.change(KeyMetadata, K1, description="new", multi_region_type="PRIMARY")
    world.change(KeyRotation, K1, status="disabled", period_days=None)
    world.change(KeyRotation, K2, period_days=90)
    world.crawl()
    world.change(KeyRotation, K2, next_rotation_at=dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    world.crawl()
    assert changes(world) == [
        ("metadata_changed", "low", "Key alias/one changed: description, multi-Region type."),
        ("rotation_changed", "info", "The rotation period of key k2 is now 90 days (was 365)."),
        ("rotation_changed", "medium", "Automatic rotation of key alias/one was disabled."),
    ]


OPENINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "known vendor": (
        vendor_statement("749452252575"), "low", "account 749452252575 (Cerby): kms:Decrypt, kms:Encrypt"
    ),
    "stranger": (vendor_statement("999900001111"), "high", "account 999900001111: kms:Decrypt, kms:Encrypt"),
    "own_organization": (
        vendor_statement("222233334444"), "medium", "account 222233334444 (Other): kms:Decrypt, kms:Encrypt"
    ),
    "role": (
        vendor_statement("999900001111") | {"Principal": {"AWS": "arn:aws:iam::999900001111:role/x"}},
        "high",
        "role arn:aws:iam::999900001111:role/x: kms:Decrypt, kms:Encrypt",
    ),
    "everyone": (vendor_statement("x") | {"Principal": "*"}, "critical", "everyone: kms:Decrypt, kms:Encrypt"),
    "everyone with a condition": (
        vendor_statement("x") | {"Principal": "*", "Condition": {"StringEquals": {"kms:ViaService": "s3.amazonaws.com"}}},
        "high",
        "everyone: kms:Decrypt, kms:Encrypt",
    ),
    "service": (
        vendor_statement("x") | {"Principal": {"Service": "logs.amazonaws.com"}},
        "medium",
        "service logs.amazonaws.com: kms:Decrypt, kms:Encrypt",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The changes of a run in which the policy of one key per case was opened."""
    world = LedgerBuilder(f"sqlite:///{tmp_path_factory.mktemp('opened') / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.account("222233334444", "Other")
    keys = [world.key(SHOP, IRELAND, case.replace(" ", "-")) for case in OPENINGS]
    world.crawl()
    for key, (statement, _, _) in zip(keys, OPENINGS.values(), strict=True):
        world.policy(key, [root_statement(SHOP), statement])
    world.crawl()
    return changes(world)


@pytest.mark.parametrize("case", OPENINGS)
def test_a_policy_is_opened(opened: list[tuple[Any, ...]], case: str) -> None:
    """A new principal outside the account in an Allow statement is the only change."""
    _, severity, who = OPENINGS[case]
    name = f"key {case.replace(' ', '-')} was"
    events = [row for row in opened if name in row[2]]
    assert events == [("policy_opened", severity, f"The policy of {name} opened to {who}.")]
    assert len(opened) == len(OPENINGS)


def test_a_configured_party_has_its_name(world: LedgerBuilder) -> None:
    """The message has the configured name of a party."""
    world.crawl()
    world.policy(K1, [root_statement(SHOP), vendor_statement("999900001111")])
    world.crawl()
    settings = settings_of(known_external_parties=[{"name": "Scanner", "accounts": ["999900001111"]}])
    assert "account 999900001111 (Scanner)" in changes(world, settings=settings)[0][2]


def test_a_policy_is_changed_without_being_opened(world: LedgerBuilder) -> None:
    """Added and removed statements are named; a Deny, or another spelling of the same policy, opens nothing."""
    world.crawl()
    deny = {"Sid": "NoDelete", "Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion", "Resource": "*"}
    world.policy(K1, [root_statement(SHOP), deny])
    world.policy(K2, [root_statement(SHOP) | {"Principal": {"AWS": [SHOP]}, "Action": ["KMS:*"]}])
    world.crawl()
    world.policy(K1, [deny | {"Sid": "Never"}])
    world.crawl()
    assert sentences(world) == [
        (
            "The policy of key alias/one was changed: added statement Never; removed statement Enable IAM policies, "
            "statement NoDelete."
        ),
        "The policy of key alias/one was changed: added statement NoDelete.",
    ]


def test_aliases_grants_and_tags(world: LedgerBuilder) -> None:
    """Each addition, change and removal has a message; a grant to an outside account has a higher severity."""
    world.crawl()
    world.alias("alias/two", K2)
    world.tag(K1, Owner="you", Team="x")
    world.grant(K1, "g2", grantee_principal="arn:aws:iam::999900001111:root")
    world.remove(KeyGrant, K1, "g1")
    world.crawl()
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{SHOP}:alias/two")
    world.remove(Tag, K1, "Team")
    world.crawl()
    assert changes(world) == [
        ("alias_created", "low", "Alias alias/two was created for key k2."),
        ("alias_removed", "medium", "Alias alias/two of key k2 was removed."),
        (
            "grant_added",
            "high",
            "A grant was added to key alias/one for arn:aws:iam::999900001111:root: Decrypt, GenerateDataKey.",
        ),
        (
            "grant_removed",
            "low",
            f"A grant was removed from key alias/one for arn:aws:iam::{SHOP}:role/app: Decrypt, GenerateDataKey.",
        ),
        ("tag_added", "low", "Tag Team=x was added to key alias/one."),
        ("tag_changed", "low", "Tag Owner of key alias/one is now you (was me)."),
        ("tag_removed", "medium", "Tag Team=x was removed from key alias/one."),
    ]


def test_resources(world: LedgerBuilder) -> None:
    """Resources are created, change or lose their key, and are deleted."""
    world.crawl()
    world.uses(world.database(SHOP, IRELAND, "db1"), K1)
    world.uses(SECRET, None, "none", role="secret")
    world.crawl()
    world.uses(SECRET, K2, role="secret")
    world.change(Resource, f"arn:aws:rds:{IRELAND}:{SHOP}:db:db1", status="inaccessible-encryption-credentials")
    world.crawl()
    world.uses(SECRET, K2, "dangling", role="secret")
    world.remove(Resource, f"arn:aws:rds:{IRELAND}:{SHOP}:db:db1")
    world.crawl()
    assert [changes(world, run) for run in (2, 3, 4)] == [
        [
            ("rekeyed", "medium", "Secret db now uses no key (was alias/one)."),
            ("resource_created", "info", "RDS DB instance db1 in Shop (111122223333, eu-west-1) was created."),
        ],
        [
            (
                "metadata_changed",
                "critical",
                (
                    "RDS DB instance db1 in Shop (111122223333, eu-west-1) lost access to its key: its status is "
                    "inaccessible-encryption-credentials."
                ),
            ),
            ("rekeyed", "medium", "Secret db now uses key k2 (was no key)."),
        ],
        [
            ("rekeyed", "critical", "Secret db uses key k2, which no longer exists."),
            ("resource_gone", "low", "RDS DB instance db1 in Shop (111122223333, eu-west-1) no longer exists."),
        ],
    ]


def test_data_that_becomes_known_is_not_a_change(world: LedgerBuilder) -> None:
    """Grants, tags and policy that were denied at first are not changes when they are first read."""
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy", "kms:DescribeKey"):
        world.gap(SHOP, IRELAND, action, K1)
    world.uses(SECRET, None, "unknown", role="secret")
    world.crawl()
    world.facts.pop(Gap)
    world.uses(SECRET, K1, role="secret")
    world.crawl()
    assert changes(world) == []


def test_a_failed_scope_has_no_changes(world: LedgerBuilder) -> None:
    """The keys of a failed scope are neither deleted nor created."""
    world.crawl()
    world.outcomes[SHOP, IRELAND] = ("failed", "the role does not exist")
    world.crawl()
    world.outcomes[SHOP, IRELAND] = ("complete", None)
    world.crawl()
    assert changes(world) == []


def test_a_new_resource_type_is_not_a_change(world: LedgerBuilder) -> None:
    """Resources of a type that only a newer version lists are not reported as created."""
    world.crawl()
    world.version = "0.2.0"
    world.uses(world.database(SHOP, IRELAND, "db1"), K1)
    world.crawl()
    assert changes(world) == []


def test_accounts_and_key_stores(world: LedgerBuilder) -> None:
    """Accounts leave; a key store that loses its connection makes its keys unusable."""
    world.add(CustomKeyStore, account_id=SHOP, region=IRELAND, store_id="c1", name="hsm", connection_state="CONNECTED")
    world.account("222233334444", "Other")
    world.crawl()
    world.change(CustomKeyStore, SHOP, IRELAND, "c1", connection_state="FAILED", connection_error="USER_LOCKED_OUT")
    world.change(Account, "222233334444", state="LEFT", selection="left")
    world.crawl()
    assert changes(world) == [
        ("account_left", "medium", "Account Other (222233334444) left the organization."),
        (
            "key_store_state",
            "high",
            "Custom key store hsm in Shop (111122223333, eu-west-1) is now FAILED (was CONNECTED): USER_LOCKED_OUT.",
        ),
    ]
