"""Tests of shipped rules over real ledgers: pass, fail, unknown and not applicable, with their reasons."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from models.tables import Key, KeyMetadata, Resource
from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.loader import load_rules
from reports.rules.runner import population
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of
from tests.reports.rules.conftest import NAMES, EvaluateRule
from tests.reports.scenarios import Scenarios, Steps

OTHER = "arn:aws:kms:eu-west-1:999900001111:key/k9"

DATABASE_TIER = {"database-tier-key": {"tag": "DataTier", "value": "database"}}
RULES = ("secret-customer-managed-key", "key-unusable-in-use", "database-tier-key", "key-rotation")
Evaluated = Callable[[str, str], dict[str, tuple[str, str]]]
"""Status and reason by the resource's name, of a scenario and a rule. The scenario's account is SHOP in them."""

scenarios = Scenarios()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluated]:
    """The results of the rules after all scenarios."""
    folder = tmp_path_factory.mktemp("rules")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    accounts = scenarios.play(world)
    settings = settings_of(
        database=world.url,
        report={"mart": folder / "mart.duckdb"},
        rules={**only(*RULES), "parameters": DATABASE_TIER},
    )
    refresh(settings)
    rules = {rule.rule_id: rule for rule in load_rules(settings)}
    with connect(settings.report.mart) as mart:
        names = dict(mart.execute(NAMES).fetchall())

        def results(scenario: str, rule_id: str) -> dict[str, tuple[str, str]]:
            account = accounts[scenario]
            return {
                names.get(arn, arn).replace(account, SHOP): (status, reason.replace(account, SHOP))
                for arn, _, _, _, status, reason in population(mart, rules[rule_id], accounts=[account])
            }

        yield results


@scenarios
def secrets(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    own = world.key(shop, IRELAND, "k1")
    world.alias("alias/own", own)
    managed = world.key(shop, IRELAND, "k2", manager="AWS")
    world.alias("alias/aws/secretsmanager", managed)
    cases: dict[str, tuple[str | None, str, dict[str, Any]]] = {
        "by-arn": (own, "customer", {}),
        "by-alias": (own, "customer", {"raw_value": "alias/own", "format": "alias_name"}),
        "omitted": (managed, "aws_managed", {"raw_value": None, "format": "omitted"}),
        "named-managed": (managed, "aws_managed", {"raw_value": "alias/aws/secretsmanager", "format": "alias_name"}),
        "never-used": (None, "aws_managed", {"raw_value": None, "format": "omitted"}),
        "gone": (f"arn:aws:kms:{IRELAND}:{shop}:key/k7", "dangling", {}),
        "gone-alias": (None, "dangling", {"raw_value": "alias/gone", "format": "alias_name"}),
        "elsewhere": (OTHER, "not_crawled", {}),
        "odd": (None, "unknown", {"raw_value": "???", "format": "malformed", "reason": "neither id nor ARN"}),
    }
    for name, (key, key_class, values) in cases.items():
        world.uses(world.secret(shop, IRELAND, name), key, key_class, role="secret", **values)
    leaving = world.secret(shop, IRELAND, "leaving", deletion_at=dt.datetime(2026, 12, 1, tzinfo=dt.UTC))
    world.uses(leaving, own, role="secret")
    silent = world.secret(shop, IRELAND, "silent")
    world.gap(shop, IRELAND, "secretsmanager:DescribeSecret", silent, "role_permission")
    world.secret(shop, IRELAND, "nothing-known")
    yield


def test_secrets(evaluated: Evaluated) -> None:
    """A secret passes only when its key resolves to a customer managed key."""
    assert evaluated("secrets", "secret-customer-managed-key") == {
        "by-arn": ("pass", "The customer managed key alias/own (Enabled) encrypts it."),
        "by-alias": ("pass", "The customer managed key alias/own (Enabled) encrypts it."),
        "leaving": (
            "not_applicable",
            "The secret is scheduled for deletion: its key can no longer be changed.",
        ),
        "omitted": ("fail", "The secret specifies no key, so the AWS managed key aws/secretsmanager encrypts it."),
        "never-used": ("fail", "The secret specifies no key, so the AWS managed key aws/secretsmanager encrypts it."),
        "named-managed": ("fail", "The AWS managed key alias/aws/secretsmanager encrypts it."),
        "gone": (
            "fail",
            "The key arn:aws:kms:eu-west-1:111122223333:key/k7 no longer exists: the secret cannot be read.",
        ),
        "gone-alias": ("fail", "The key alias/gone no longer exists: the secret cannot be read."),
        "elsewhere": (
            "unknown",
            f"The key {OTHER} is in an account or region that was not crawled, so who manages it could not be determined.",
        ),
        "odd": ("unknown", "The key of this secret could not be determined: neither id nor ARN."),
        "silent": ("unknown", "The key of this secret could not be determined: the crawl returned no data for it."),
        "nothing-known": (
            "unknown",
            "The key of this secret could not be determined: the crawl returned no data for it.",
        ),
    }


@scenarios
def a_secret_with_a_disabled_key_passes_with_a_note(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    world.uses(world.secret(shop, IRELAND, "s"), world.key(shop, IRELAND, "k1", state="Disabled"), role="secret")
    yield


def test_a_secret_with_a_disabled_key_passes_with_a_note(evaluated: Evaluated) -> None:
    """The rule checks who manages the key; the state is in the reason, and fails another rule."""
    result = evaluated("a_secret_with_a_disabled_key_passes_with_a_note", "secret-customer-managed-key")["s"]
    assert result == ("pass", f"The customer managed key arn:aws:kms:{IRELAND}:{SHOP}:key/k1 (Disabled) encrypts it.")
    assert evaluated("a_secret_with_a_disabled_key_passes_with_a_note", "key-unusable-in-use")["k1"][0] == "fail"


@scenarios
def databases_with_the_tiers_key(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    tier = world.key(shop, IRELAND, "k1")
    world.tag(tier, DataTier="database")
    other = world.key(shop, IRELAND, "k2")
    world.tag(other, DataTier="Database")
    stopped = world.key(shop, IRELAND, "k3", state="PendingDeletion")
    world.tag(stopped, DataTier="database")
    closed = world.key(shop, IRELAND, "k4")
    world.gap(shop, IRELAND, "kms:ListResourceTags", closed)
    cases: tuple[tuple[str, str | None, str], ...] = (
        ("good", tier, "customer"),
        ("untagged", other, "customer"),
        ("stopped", stopped, "customer"),
        ("closed", closed, "customer"),
        ("plain", None, "none"),
        ("owned", None, "aws_owned"),
        ("managed", f"arn:aws:kms:{IRELAND}:{shop}:key/k8", "aws_managed"),
        ("gone", f"arn:aws:kms:{IRELAND}:{shop}:key/k7", "dangling"),
        ("elsewhere", OTHER, "not_crawled"),
    )
    for name, key, key_class in cases:
        encryption = "sse-rds" if key_class == "aws_owned" else None
        world.uses(world.database(shop, IRELAND, name, encryption=encryption), key, key_class)
    world.uses(world.database(shop, IRELAND, "good"), other, role="performance-insights")
    cache = world.resource(
        f"arn:aws:elasticache:{IRELAND}:{shop}:replicationgroup:redis",
        "AWS::ElastiCache::ReplicationGroup",
        "redis",
        account_id=shop,
        region=IRELAND,
    )
    world.uses(cache, tier)
    yield


def test_databases_with_the_tiers_key(evaluated: Evaluated) -> None:
    """Each database is checked by its storage key, and each account-region by the existence of such a key."""
    results = evaluated("databases_with_the_tiers_key", "database-tier-key")
    assert {name: status for name, (status, _) in results.items()} == {
        "good": "pass",
        "redis": "pass",
        "untagged": "fail",
        "stopped": "fail",
        "plain": "fail",
        "owned": "fail",
        "managed": "fail",
        "gone": "fail",
        "closed": "unknown",
        "elsewhere": "unknown",
        f"{SHOP}/{IRELAND}": "pass",
    }
    assert results["untagged"][1] == "Its key k2 is not tagged DataTier=database."
    assert results["stopped"][1] == "Its key k3 is tagged DataTier=database, but is in state PendingDeletion."
    assert results["owned"][1] == "An AWS owned key encrypts its storage (sse-rds)."
    assert results["closed"][1] == "The tags of its key k4 could not be read."
    assert results[f"{SHOP}/{IRELAND}"][1] == "1 usable key tagged DataTier=database for 10 databases."


TIER_CASES: list[tuple[str | None, str | None, str | None, tuple[str, str]]] = [
    ("Enabled", "database", None, ("pass", "1 usable key tagged DataTier=database for 1 database.")),
    ("Enabled", "web", None, ("fail", "1 database, but no customer managed key is tagged DataTier=database.")),
    (
        "Disabled",
        "database",
        None,
        ("fail", "1 database, but no key tagged DataTier=database can be used: k1 is Disabled."),
    ),
    (
        "Enabled",
        None,
        "kms:ListResourceTags",
        (
            "unknown",
            (
                "1 database, but no usable key was found that is tagged DataTier=database; 1 key could not be read "
                "completely."
            ),
        ),
    ),
    (
        None,
        None,
        "kms:ListKeys",
        (
            "unknown",
            (
                "1 database, but the keys in this account and region could not be listed, so a key tagged "
                "DataTier=database may exist."
            ),
        ),
    ),
]


def tier_case(state: str | None, tag: str | None, gap: str | None) -> Steps:
    def steps(world: LedgerBuilder, shop: str) -> Iterator[None]:
        world.account(shop, "Shop", IRELAND, "us-east-1")
        world.uses(world.database(shop, IRELAND, "db"), None, "none")
        if state is not None:
            key = world.key(shop, IRELAND, "k1", state=state)
            if tag is not None:
                world.tag(key, DataTier=tag)
        if gap is not None:
            world.gap(shop, IRELAND, gap, "" if state is None else f"arn:aws:kms:{IRELAND}:{shop}:key/k1")
        yield

    return steps


for number, case in enumerate(TIER_CASES):
    scenarios.add(f"tier {number}", tier_case(*case[:3]))


@pytest.mark.parametrize("number", range(len(TIER_CASES)))
def test_an_account_region_with_databases_needs_a_tier_key(evaluated: Evaluated, number: int) -> None:
    """An account-region with databases needs a usable key with the tag; with unread tags the result is unknown."""
    results = evaluated(f"tier {number}", "database-tier-key")
    assert results[f"{SHOP}/{IRELAND}"] == TIER_CASES[number][3]
    assert f"{SHOP}/us-east-1" not in results


@pytest.mark.deep
def test_the_tag_of_the_tier_is_configurable(world: LedgerBuilder, evaluate_rule: EvaluateRule) -> None:
    """The settings override tag and value of the tier."""
    key = world.key(SHOP, IRELAND, "k1")
    world.tag(key, Tier="db")
    world.uses(world.database(SHOP, IRELAND, "db"), key)
    assert evaluate_rule("database-tier-key", parameters=DATABASE_TIER)["db"][0] == "fail"
    own = evaluate_rule(
        "database-tier-key", crawl=False, parameters={"database-tier-key": {"tag": "Tier", "value": "db"}}
    )
    assert own["db"] == ("pass", "Its key k1 is tagged Tier=db and enabled.")


@scenarios
def unusable_keys(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    date = dt.datetime(2026, 12, 24, tzinfo=dt.UTC)
    leaving = world.key(shop, IRELAND, "leaving", state="PendingDeletion", deletion_date=date)
    for name in ("b", "a"):
        world.uses(world.secret(shop, IRELAND, name), leaving, role="secret")
    granted = world.key(shop, IRELAND, "granted", state="Disabled")
    world.grant(granted, "g1", grantee_principal=f"arn:aws:iam::{shop}:role/app")
    world.key(shop, IRELAND, "idle", state="Disabled")
    closed = world.key(shop, IRELAND, "closed", state="Disabled")
    world.gap(shop, IRELAND, "kms:ListGrants", closed)
    dark = world.key(shop, IRELAND, "dark")
    del world.facts[KeyMetadata][dark,]
    world.gap(shop, IRELAND, "kms:DescribeKey", dark)
    world.key(shop, IRELAND, "managed", manager="AWS", policy=None)
    world.key(shop, IRELAND, "fine")
    world.uses(world.secret(shop, IRELAND, "c"), f"arn:aws:kms:{IRELAND}:{shop}:key/lost", "dangling", role="secret")
    yield


def test_unusable_keys(evaluated: Evaluated) -> None:
    """An unusable key fails if something uses it, and is unknown if its use could not be read."""
    results = evaluated("unusable_keys", "key-unusable-in-use")
    lost = f"arn:aws:kms:{IRELAND}:{SHOP}:key/lost"
    assert results == {
        "leaving": (
            "fail",
            "The key will be deleted on 2026-12-24. 2 resources use it: secretsmanager a, secretsmanager b.",
        ),
        "granted": ("fail", "The key is in state Disabled. It has 1 grant."),
        lost: ("fail", "The key no longer exists. 1 resource uses it: secretsmanager c."),
        "idle": ("pass", "The key is in state Disabled. No crawled resource uses it, and it has no grants."),
        "fine": ("pass", "The key can be used."),
        "closed": (
            "unknown",
            (
                "The key is in state Disabled. No crawled resource uses it, but its grants could not be read "
                "(kms:ListGrants: access was denied without a reason)."
            ),
        ),
        "dark": (
            "unknown",
            "The state of the key could not be read (kms:DescribeKey: access was denied without a reason).",
        ),
        "managed": ("not_applicable", "AWS manages this key; it cannot be disabled or deleted."),
    }


@scenarios
def recoverable_database(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    database = world.database(shop, IRELAND, "db")
    world.uses(database, world.key(shop, IRELAND, "k1", state="Disabled"))
    yield
    world.change(Resource, database, status="inaccessible-encryption-credentials-recoverable")
    yield
    world.change(Resource, database, details='{"engine":"postgres"}')
    yield


@scenarios
def unrecoverable_database(world: LedgerBuilder, shop: str) -> Iterator[None]:
    yield from recoverable_database(world, shop)
    database = f"arn:aws:rds:{IRELAND}:{shop}:db:db"
    world.change(Resource, database, status="inaccessible-encryption-credentials")
    yield


def test_the_recovery_period_of_a_database(evaluated: Evaluated) -> None:
    """The recovery period starts with the first run that saw the status, regardless of later changes."""
    assert evaluated("recoverable_database", "key-unusable-in-use")["k1"] == (
        "fail",
        (
            "The key is in state Disabled. 1 resource uses it: rds db. db is inaccessible-encryption-credentials-"
            "recoverable, first seen on 2026-11-21: recoverable for seven days, until 2026-11-28 at the latest."
        ),
    )
    assert evaluated("unrecoverable_database", "key-unusable-in-use")["k1"][1].endswith(
        "db is inaccessible-encryption-credentials, first seen on 2026-11-23: it can only be restored from a backup."
    )


@scenarios
def rotation(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    world.key(shop, IRELAND, "on")
    world.key(shop, IRELAND, "off", rotation="disabled")
    world.key(shop, IRELAND, "rsa", key_spec="RSA_4096", rotation="not_applicable")
    world.key(shop, IRELAND, "imported", origin="EXTERNAL", rotation="not_applicable")
    world.key(shop, IRELAND, "disabled", state="Disabled", rotation="disabled")
    world.key(shop, IRELAND, "managed", manager="AWS", rotation="unknown")
    denied = world.key(shop, IRELAND, "denied", rotation="unknown")
    world.gap(shop, IRELAND, "kms:GetKeyRotationStatus", denied, "throttled")
    dark = world.key(shop, IRELAND, "dark")
    del world.facts[KeyMetadata][dark,]
    world.gap(shop, IRELAND, "kms:DescribeKey", dark)
    yield


def test_rotation(evaluated: Evaluated) -> None:
    """Rotation must be enabled where KMS supports it; elsewhere the reason says why it does not apply."""
    assert evaluated("rotation", "key-rotation") == {
        "on": ("pass", "The key rotates every 365 days."),
        "off": ("fail", "Automatic rotation is disabled; its material dates from 2024-01-15."),
        "rsa": ("not_applicable", "KMS cannot rotate keys with the spec RSA_4096 automatically."),
        "imported": ("not_applicable", "KMS cannot rotate key material of origin EXTERNAL automatically."),
        "disabled": ("not_applicable", "The key is in state Disabled, so it does not rotate."),
        "managed": ("not_applicable", "AWS manages this key and its rotation."),
        "denied": (
            "unknown",
            (
                "Its rotation status could not be read (kms:GetKeyRotationStatus: AWS throttled the request until the retries "
                "were exhausted)."
            ),
        ),
        "dark": ("unknown", "The key could not be described (kms:DescribeKey: access was denied without a reason)."),
    }


@scenarios
def deleted_key(world: LedgerBuilder, shop: str) -> Iterator[None]:
    world.account(shop, "Shop", IRELAND)
    key = world.key(shop, IRELAND, "k1", rotation="disabled")
    world.key(shop, IRELAND, "k2", rotation="disabled")
    yield
    world.remove(Key, key)
    yield


def test_a_deleted_key_has_no_result(evaluated: Evaluated) -> None:
    """A deleted key has no result of a rule."""
    assert set(evaluated("deleted_key", "key-rotation")) == {"k2"}
