"""The change log: the changes of each run, with their messages."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
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
from tests.reports.scenarios import Scenarios

SHOP, IRELAND = "111122223333", "eu-west-1"
Change = tuple[str, str, str]
"""Event type, severity and message."""


@dataclass(frozen=True)
class Shop:
    """An account of its own for one scenario, with two keys and one of everything on the first."""

    world: LedgerBuilder
    account: str
    k1: str
    k2: str
    secret: str


def new_shop(world: LedgerBuilder, account: str) -> Shop:
    world.account(account, "Shop", IRELAND)
    k1, k2 = world.key(account, IRELAND, "k1"), world.key(account, IRELAND, "k2")
    secret = world.secret(account, IRELAND, "db")
    world.alias("alias/one", k1)
    world.tag(k1, Owner="me")
    world.grant(k1, "g1", grantee_principal=f"arn:aws:iam::{account}:role/app")
    world.uses(secret, k1, role="secret")
    return Shop(world, account, k1, k2, secret)


Scenario = Callable[[Shop], Iterator[None]]
"""What happens to a shop: each ``yield`` is a crawl of the whole organization."""
Recorded = dict[Hashable, dict[int, list[Change]]]
"""The changes of each scenario, by run."""
scenarios = Scenarios()


def scenario(function: Scenario) -> Scenario:
    scenarios.add(function, lambda world, account: function(new_shop(world, account)))
    return function


def stored_changes(world: LedgerBuilder, settings: Settings) -> list[tuple[Any, ...]]:
    path = Path(world.url.removeprefix("sqlite:///")).with_name("mart.duckdb")
    offer_schema(path)
    build(world.url, path, settings)
    with connect(path) as connection:
        query = "SELECT run_id, account_id, event_type, severity, message FROM changes ORDER BY ALL"
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The changes of all scenarios; each one's account is SHOP in the messages."""
    world = LedgerBuilder(f"sqlite:///{tmp_path_factory.mktemp('changes') / 'ledger.db'}")
    accounts = scenarios.play(world)
    settings = settings_of(known_external_parties=[{"name": "Scanner", "accounts": ["999900002222"]}])
    found = stored_changes(world, settings)
    changes: Recorded = {}
    for function, account in accounts.items():
        by_run = changes.setdefault(function, {})
        for run_id, account_id, event_type, severity, message in found:
            if account_id == account:
                by_run.setdefault(run_id, []).append((event_type, severity, message.replace(account, SHOP)))
    return changes


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


@scenario
def a_new_region(shop: Shop) -> Iterator[None]:
    yield
    yield
    shop.world.account(shop.account, "Shop", IRELAND, "us-east-1")
    other = shop.world.key(shop.account, "us-east-1", "k3")
    shop.world.alias("alias/three", other)
    shop.world.tag(other, Owner="me")
    shop.world.uses(shop.world.secret(shop.account, "us-east-1", "three"), other, role="secret")
    yield


def test_an_unchanged_run_and_a_first_crawl_have_no_changes(recorded: Recorded) -> None:
    """The first run, an unchanged run and the first crawl of a region have no changes."""
    assert recorded[a_new_region] == {}


@scenario
def a_temporary_key(shop: Shop) -> Iterator[None]:
    yield
    key = shop.world.key(shop.account, IRELAND, "k3")
    shop.world.alias("alias/three", key)
    shop.world.tag(key, Owner="me")
    shop.world.grant(key, "g3", grantee_principal=f"arn:aws:iam::{shop.account}:role/app")
    yield
    shop.world.remove(Key, key)
    shop.world.remove(Alias, f"arn:aws:kms:{IRELAND}:{shop.account}:alias/three")
    yield


def test_a_new_key_is_one_change_and_so_is_a_lost_one(recorded: Recorded) -> None:
    """Aliases, tags and grants of a created or deleted key are not separate changes."""
    assert [message for run in (2, 3) for _, _, message in recorded[a_temporary_key][run]] == [
        "Key alias/three in Shop (111122223333, eu-west-1) was created.",
        "Key alias/three in Shop (111122223333, eu-west-1) no longer exists.",
    ]


@scenario
def changing_states(shop: Shop) -> Iterator[None]:
    yield
    for state, date in (
        ("Disabled", None),
        ("Enabled", None),
        ("PendingDeletion", dt.datetime(2026, 12, 24, tzinfo=dt.UTC)),
        ("Disabled", None),
    ):
        shop.world.change(KeyMetadata, shop.k1, state=state, deletion_date=date)
        yield


def test_states(recorded: Recorded) -> None:
    """Disabling, scheduling and canceling a deletion, with their severities."""
    key = "alias/one in Shop (111122223333, eu-west-1)"
    assert [recorded[changing_states][run] for run in (2, 3, 4, 5)] == [
        [("key_state", "critical", f"Key {key} is now in state Disabled (was Enabled).")],
        [("key_state", "low", f"Key {key} is now in state Enabled (was Disabled).")],
        [("deletion_scheduled", "critical", f"Key {key} was scheduled for deletion on 2026-12-24.")],
        [("deletion_cancelled", "medium", f"The deletion of key {key} was cancelled; its state is now Disabled.")],
    ]


@scenario
def changing_metadata(shop: Shop) -> Iterator[None]:
    yield
    shop.world.change(KeyMetadata, shop.k1, description="new", multi_region_type="PRIMARY")
    shop.world.change(KeyRotation, shop.k1, status="disabled", period_days=None)
    shop.world.change(KeyRotation, shop.k2, period_days=90)
    yield
    shop.world.change(KeyRotation, shop.k2, next_rotation_at=dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    yield


def test_metadata_and_rotation(recorded: Recorded) -> None:
    """Metadata and rotation settings are changes; a scheduled rotation is not."""
    assert recorded[changing_metadata] == {
        2: [
            ("metadata_changed", "low", "Key alias/one changed: description, multi-Region type."),
            ("rotation_changed", "info", "The rotation period of key k2 is now 90 days (was 365)."),
            ("rotation_changed", "medium", "Automatic rotation of key alias/one was disabled."),
        ]
    }


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


@scenario
def opened_policies(shop: Shop) -> Iterator[None]:
    keys = [shop.world.key(shop.account, IRELAND, case.replace(" ", "-")) for case in OPENINGS]
    shop.world.account("222233334444", "Other")
    yield
    for key, (statement, _, _) in zip(keys, OPENINGS.values(), strict=True):
        shop.world.policy(key, [root_statement(shop.account), statement])
    yield


@pytest.mark.parametrize("case", OPENINGS)
def test_a_policy_is_opened(recorded: Recorded, case: str) -> None:
    """A new principal outside the account in an Allow statement is the only change."""
    _, severity, who = OPENINGS[case]
    name = f"key {case.replace(' ', '-')} was"
    opened = recorded[opened_policies][2]
    events = [change for change in opened if name in change[2]]
    assert events == [("policy_opened", severity, f"The policy of {name} opened to {who}.")]
    assert len(opened) == len(OPENINGS)


@scenario
def opened_to_a_configured_party(shop: Shop) -> Iterator[None]:
    yield
    shop.world.policy(shop.k1, [root_statement(shop.account), vendor_statement("999900002222")])
    yield


def test_a_configured_party_has_its_name(recorded: Recorded) -> None:
    """The message has the configured name of a party."""
    ((_, _, message),) = recorded[opened_to_a_configured_party][2]
    assert "account 999900002222 (Scanner)" in message


@scenario
def rewritten_policies(shop: Shop) -> Iterator[None]:
    yield
    deny = {"Sid": "NoDelete", "Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion", "Resource": "*"}
    shop.world.policy(shop.k1, [root_statement(shop.account), deny])
    shop.world.policy(
        shop.k2, [root_statement(shop.account) | {"Principal": {"AWS": [shop.account]}, "Action": ["KMS:*"]}]
    )
    yield
    shop.world.policy(shop.k1, [deny | {"Sid": "Never"}])
    yield


def test_a_policy_is_changed_without_being_opened(recorded: Recorded) -> None:
    """Added and removed statements are named; a Deny, or another spelling of the same policy, opens nothing."""
    assert [message for run in (2, 3) for _, _, message in recorded[rewritten_policies][run]] == [
        "The policy of key alias/one was changed: added statement NoDelete.",
        (
            "The policy of key alias/one was changed: added statement Never; removed statement Enable IAM policies, "
            "statement NoDelete."
        ),
    ]


@scenario
def changing_access(shop: Shop) -> Iterator[None]:
    yield
    shop.world.alias("alias/two", shop.k2)
    shop.world.tag(shop.k1, Owner="you", Team="x")
    shop.world.grant(shop.k1, "g2", grantee_principal="arn:aws:iam::999900001111:root")
    shop.world.remove(KeyGrant, shop.k1, "g1")
    yield
    shop.world.remove(Alias, f"arn:aws:kms:{IRELAND}:{shop.account}:alias/two")
    shop.world.remove(Tag, shop.k1, "Team")
    yield


def test_aliases_grants_and_tags(recorded: Recorded) -> None:
    """Each addition, change and removal has a message; a grant to an outside account has a higher severity."""
    assert sorted(recorded[changing_access][2] + recorded[changing_access][3]) == [
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


@scenario
def changing_resources(shop: Shop) -> Iterator[None]:
    yield
    shop.world.uses(shop.world.database(shop.account, IRELAND, "db1"), shop.k1)
    shop.world.uses(shop.secret, None, "none", role="secret")
    yield
    shop.world.uses(shop.secret, shop.k2, role="secret")
    shop.world.change(
        Resource, f"arn:aws:rds:{IRELAND}:{shop.account}:db:db1", status="inaccessible-encryption-credentials"
    )
    yield
    shop.world.uses(shop.secret, shop.k2, "dangling", role="secret")
    shop.world.remove(Resource, f"arn:aws:rds:{IRELAND}:{shop.account}:db:db1")
    yield


def test_resources(recorded: Recorded) -> None:
    """Resources are created, change or lose their key, and are deleted."""
    assert [recorded[changing_resources][run] for run in (2, 3, 4)] == [
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


DENIED = ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy", "kms:DescribeKey")


@scenario
def denied_at_first(shop: Shop) -> Iterator[None]:
    for action in DENIED:
        shop.world.gap(shop.account, IRELAND, action, shop.k1)
    shop.world.uses(shop.secret, None, "unknown", role="secret")
    yield
    for action in DENIED:
        shop.world.remove(Gap, shop.account, IRELAND, *action.split(":"), shop.k1)
    shop.world.uses(shop.secret, shop.k1, role="secret")
    yield


def test_data_that_becomes_known_is_not_a_change(recorded: Recorded) -> None:
    """Grants, tags and policy that were denied at first are not changes when they are first read."""
    assert recorded[denied_at_first] == {}


@scenario
def failed_in_between(shop: Shop) -> Iterator[None]:
    yield
    shop.world.outcomes[shop.account, IRELAND] = ("failed", "the role does not exist")
    yield
    shop.world.outcomes[shop.account, IRELAND] = ("complete", None)
    yield


def test_a_failed_scope_has_no_changes(recorded: Recorded) -> None:
    """The keys of a failed scope are neither deleted nor created."""
    assert recorded[failed_in_between] == {}


def test_accounts_and_new_resource_types(world: LedgerBuilder) -> None:
    """Resources of a type that only a newer version lists are not reported as created; an account that leaves is reported."""
    key = world.key(SHOP, IRELAND, "k1")
    world.account("222233334444", "Other")
    world.crawl()
    world.change(Account, "222233334444", state="LEFT", selection="left")
    world.version = "0.2.0"
    world.uses(world.database(SHOP, IRELAND, "db1"), key)
    world.crawl()
    left = ("account_left", "medium", "Account Other (222233334444) left the organization.")
    assert stored_changes(world, Settings()) == [(2, "222233334444", *left)]


@scenario
def a_lost_key_store(shop: Shop) -> Iterator[None]:
    store = {"account_id": shop.account, "region": IRELAND, "store_id": "c1"}
    shop.world.add(CustomKeyStore, **store, name="hsm", connection_state="CONNECTED")
    yield
    lost = {"connection_state": "FAILED", "connection_error": "USER_LOCKED_OUT"}
    shop.world.change(CustomKeyStore, *store.values(), **lost)
    yield


def test_key_stores(recorded: Recorded) -> None:
    """A key store that loses its connection makes its keys unusable."""
    text = "Custom key store hsm in Shop (111122223333, eu-west-1) is now FAILED (was CONNECTED): USER_LOCKED_OUT."
    assert recorded[a_lost_key_store] == {2: [("key_store_state", "high", text)]}
