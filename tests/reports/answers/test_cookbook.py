"""The cookbook: every query returns the expected row, and the document is generated from the files."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from models.errors import UserError
from models.tables import KeyMetadata, ResourcePolicy
from reports.answers.cookbook_cli import cookbook
from reports.answers.cookbook_loader import markdown, recipes
from reports.pipeline import refresh
from tests.reports.ledger_builder import only, settings_of
from tests.reports.sample_ledger import DATA, IRELAND, SHOP, VENDOR, sample_world, second_run, third_run

DOCUMENT = Path(__file__).parents[3] / "docs" / "cookbook.md"


@pytest.fixture(scope="module")
def mart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of the sample organization, with additional resources for some queries."""
    folder = tmp_path_factory.mktemp("cookbook")
    world = sample_world(folder / "ledger.db")
    imported = world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000070", origin="EXTERNAL")
    expiry = {"expiration_model": "KEY_MATERIAL_EXPIRES", "material_expires_at": dt.datetime(2027, 1, 1, tzinfo=dt.UTC)}
    world.change(KeyMetadata, imported, **expiry)
    allow_all = {"Sid": "All", "Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
    world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000071", policy=[allow_all])
    shared = world.secret(SHOP, IRELAND, "shop/shared")
    world.uses(shared, f"arn:aws:kms:{IRELAND}:{DATA}:key/00000000-0000-4000-8000-000000000005", role="secret")
    reader = {**allow_all, "Sid": "Reader", "Principal": {"AWS": DATA}, "Action": "secretsmanager:GetSecretValue"}
    world.add(ResourcePolicy, resource_arn=shared, policy_hash=world.document(reader))
    default_key_secret = world.secret(SHOP, IRELAND, "shop/default")
    world.uses(
        default_key_secret,
        f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000006",
        "aws_managed",
        role="secret",
    )
    world.crawl()
    second_run(world)
    world.crawl()
    third_run(world)
    world.crawl()
    parties = [{"name": "Checkmarx", "accounts": [VENDOR]}]
    owners = [{"account": [SHOP], "owner": "shop team"}]
    settings = settings_of(
        database=world.url,
        known_external_parties=parties,
        owners=owners,
        report={"mart": folder / "cookbook.duckdb"},
        rules=only("key-unusable-in-use"),
    )
    refresh(settings)
    return settings.report.mart


INVOICES, LAKE = {"key": "alias/invoices"}, {"alias": "alias/lake"}
EXPECTED: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "what-breaks": (INVOICES, {"what": "resource", "type": "AWS::RDS::DBInstance", "name": "invoicing"}),
    "resources-losing-their-key": (
        {},
        {"resource_name": "shop-invoices", "state": "PendingDeletion", "days_to_deletion": 29},
    ),
    "keys-about-to-be-deleted": (
        {},
        {"alias": "alias/invoices", "deletion_date": "2026-12-21", "dependent_resources": 2, "grants": 1},
    ),
    "unused-keys-with-grants": ({}, {"alias": "alias/payments", "grantees": ["dynamodb.eu-west-1.amazonaws.com"]}),
    "keys-used-from-other-accounts": ({}, {"key_alias": "alias/lake", "user_account": "Shop", "resources": 1}),
    "blast-radius": ({}, {"account_id": DATA, "resources": 1, "in_other_accounts": 1, "other_accounts": 1}),
    "vendor-can-decrypt": ({"vendor": "Checkmarx"}, {**LAKE, "since": "2026-11-22T03:00:00Z", "dependent_count": 1}),
    "external-access": (
        {},
        {"access": "vendor", "party": "Checkmarx", "resources": 1, **LAKE, "access_paths": ["Vendor"]},
    ),
    "vendors-by-accessible-keys": ({}, {"party": "Checkmarx", "keys": 1, "accounts": 1, "resources": 1}),
    "who-can-decrypt": (INVOICES, {"access": "owner_delegated", "principal": f"arn:aws:iam::{SHOP}:root"}),
    "principals-of-key": (INVOICES, {"access": "owner_direct", "operations": ["kms:Decrypt", "kms:GenerateDataKey"]}),
    "single-access-path": ({"principal": "Checkmarx"}, {**LAKE, "source_id": "Vendor", "path": "policy"}),
    "public-keys": ({}, {"access": "public", "statement": "All", "operations": ["kms:Decrypt"]}),
    "keys-without-iam": ({}, {"principals": ["*"], "deleted_principals": 0}),
    "secrets-readable-across-accounts": (
        {},
        {"secret": "shop/shared", "statement": "Reader", "key_alias": "alias/lake"},
    ),
    "policy-clusters": ({}, {"keys": 9, "accounts": 3}),
    "grant-history": (INVOICES, {"name": "rds", "from": "2026-11-20T03:00:00Z", "until": None}),
    "changed-last-run": ({}, {"event_type": "deletion_scheduled", "severity": "critical", "account_name": "Shop"}),
    "moved-aliases": ({}, {"alias": "alias/orders", "occurred_at": "2026-11-22T03:00:00Z"}),
    "rekeyed-resources": ({}, {"resource": "shop/db", "occurred_at": "2026-11-22T03:00:00Z"}),
    "new-keys": ({"days": "31"}, {"alias": "alias/orders", "created_at": "2026-10-22T12:00:00Z"}),
    "situations": (
        {},
        {"severity": "critical", "kind": "key", "cause": "alias/archive/2019", "key_state": "Disabled", "affected": 1},
    ),
    "findings-trend": ({}, {"rule_id": "key-unusable-in-use", "run_id": 3, "failing": 3, "opened": 3, "resolved": 0}),
    "findings-by-owner": ({}, {"owner": "shop team"}),
    "oldest-findings": (
        {},
        {"rule_id": "key-unusable-in-use", "resource_name": "alias/invoices", "severity": "critical"},
    ),
    "gaps-by-cause": (
        {},
        {"action": "s3:GetEncryptionConfiguration", "gaps": 1, "sample_accounts": ["Shop"], "consecutive_runs": 3},
    ),
    "coverage-trend": ({}, {"run_id": 1, "change": None, "lost": None, "regained": None}),
    "coverage-matrix": (
        {},
        {"account_name": "Locked", "failed": 1, "failed_regions": ["eu-west-1"], "consecutive_runs": 3},
    ),
    "resources-with-unknown-key": ({}, {"key_class": "dangling", "resource_name": "shop/old"}),
    "partly-known-keys": ({}, {"account_name": "R&D <img src=x onerror=alert(1)>", "policy_known": False}),
    "rotation-by-ou": ({}, {"ou_path": "/Research & <b>Data</b>", "with_rotation": 1, "unknown": 1}),
    "secrets-under-aws-key": ({}, {"account_id": SHOP, "aws_managed": 1, "sample_secrets": ["shop/default"]}),
    "missing-tags": ({}, {"tag": "missing", **LAKE}),
    "multi-region-keys": (
        {},
        {"alias": "alias/everywhere", "regions": ["eu-west-1", "us-east-1"], "states_differ": False},
    ),
    "imported-material": ({}, {"material_expires_at": "2027-01-01T00:00:00Z", "account_name": "Shop"}),
    "key-stores": ({}, {"name": "hsm", "connection_state": "FAILED", "keys": 1}),
    "keys-outside-regions": ({}, {"region": "us-east-1", "account_name": "Shop", "keys": 2}),
    "keys-by-type": ({}, {"key_spec": "SYMMETRIC_DEFAULT", "origin": "EXTERNAL", "keys": 2, "accounts": 2}),
    "monthly-cost": ({"price": "1.50"}, {"account_id": DATA, "keys": 4, "per_month": 6}),
}


def run(mart: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(cookbook, ["--mart", str(mart), "--format", "json", *arguments])
    if result.exception:
        raise result.exception
    return json.loads(result.output)


def test_every_query_is_tested() -> None:
    """There are at least thirty queries, and each has an expected row."""
    assert len(recipes()) >= 30
    assert {recipe.name for recipe in recipes()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_expected_row(name: str, mart: Path) -> None:
    """The result contains the expected row of the sample organization."""
    parameters, expected = EXPECTED[name]
    rows = run(mart, name, *(f"--set={parameter}={value}" for parameter, value in parameters.items()))
    assert any(expected.items() <= row.items() for row in rows), rows[:20]


def test_the_document_is_up_to_date() -> None:
    """docs/cookbook.md has the shipped queries."""
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(recipes()), (
        "the cookbook has changed: regenerate the document with `kmsledger cookbook --format markdown --output docs/cookbook.md`"
    )


def test_list_and_show() -> None:
    """Without a name the queries are listed; --show prints the query and its meaning without a mart."""
    recipe_list = CliRunner().invoke(cookbook, []).output
    assert all(recipe.name in recipe_list for recipe in recipes())
    output = CliRunner().invoke(cookbook, ["what-breaks", "--show"]).output
    assert "--set key=VALUE" in output
    assert "FROM resource_keys" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["what-breaks"],
        ["what-breaks", "--set", "kee=x"],
        ["what-breaks", "--set", "key"],
        ["--set", "a=b"],
    ],
)
def test_usage_errors(arguments: list[str], mart: Path) -> None:
    """Unknown queries and parameters, and missing values, have exit code 2."""
    result = CliRunner().invoke(cookbook, ["--mart", str(mart), *arguments])
    assert (result.exception.exit_code if isinstance(result.exception, UserError) else result.exit_code) == 2


def test_parameters_are_bound(mart: Path) -> None:
    """A hostile value is a text that matches nothing."""
    assert run(mart, "what-breaks", "--set", "key='; DROP VIEW keys; --") == []


def test_as_of_an_earlier_run(mart: Path) -> None:
    """A query can run as of an earlier run."""
    result = CliRunner().invoke(
        cookbook, ["--mart", str(mart), "--as-of", "1", "--format", "csv", "keys-about-to-be-deleted"]
    )
    assert result.exception is None
    assert "invoices" not in result.output
