"""Access analysis in the ledger and the mart: classes, since when, alternative paths, and unknowns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import text

from models.settings import Settings
from models.store.engine import connect as connect_ledger
from models.tables import Key, KeyGrant
from models.tables.runs import Cause
from reports.access.analysis import stage
from reports.access.analysis.stage import analyze_access
from reports.mart import as_of_connection
from reports.mart.connection import connect
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of

OURS, SISTER = "111122223333", "444455556666"
PARTNER, STRANGER = "754581900792", "999900001111"
REGION = "eu-west-1"
Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(OURS, "Shop", REGION)
    world.account(SISTER, "Data", REGION)
    return world


@pytest.fixture
def settings(world: LedgerBuilder, tmp_path: Path) -> Settings:
    parties = [{"name": "Partner", "accounts": [PARTNER]}]
    return settings_of(database=world.url, known_external_parties=parties, report={"mart": tmp_path / "mart.duckdb"})


@pytest.fixture
def query(settings: Settings) -> Iterator[Query]:
    """Return a function that queries the mart; the first call builds it."""
    connections: list[duckdb.DuckDBPyConnection] = []

    def run(sql: str) -> list[tuple[Any, ...]]:
        if not connections:
            build_mart(settings)
            connections.append(connect(settings.report.mart))
        return connections[0].execute(sql).fetchall()

    yield run
    for connection in connections:
        connection.close()


def allow(sid: str, principal: Any, *actions: str, **condition: dict[str, Any]) -> dict[str, Any]:
    element = principal if principal == "*" else {"AWS": principal}
    statement = {"Sid": sid, "Effect": "Allow", "Principal": element, "Action": list(actions), "Resource": "*"}
    return statement | ({"Condition": condition} if condition else {})


def key(world: LedgerBuilder, number: int, *statements: dict[str, Any], account: str = OURS, **values: Any) -> str:
    policy = [root_statement(account), *statements]
    return world.key(account, REGION, f"00000000-0000-4000-8000-{number:012d}", **({"policy": policy} | values))


def test_grant_to_a_foreign_account_is_external_access(world: LedgerBuilder, query: Query) -> None:
    """A grant to another account is reported with its id, its conditions and its dependency on IAM."""
    shared = key(world, 1)
    world.grant(
        shared,
        "ab" * 32,
        grantee_principal=f"arn:aws:iam::{STRANGER}:root",
        operations='["Decrypt","DescribeKey"]',
        constraints='{"EncryptionContextSubset":{"tenant":"one","zone":"x"},"SourceArn":"arn:aws:sns:x"}',
    )
    world.crawl()
    (row,) = query(
        "SELECT principal_account, path, source_id, operations, conditions, needs_iam, message FROM internal.key_access "
        "WHERE access = 'external'"
    )
    conditions = "encryption context tenant=one, zone=x; only for arn:aws:sns:x; DescribeKey without encryption context"
    assert row[:6] == (STRANGER, "grant", "ab" * 32, ["kms:Decrypt", "kms:DescribeKey"], conditions, True)
    assert row[6] == (
        f"Account {STRANGER} can kms:Decrypt, kms:DescribeKey through grant {'ab' * 32}, "
        f"if its own IAM policies allow it, {conditions}."
    )


def test_a_service_that_acts_for_a_foreign_account_needs_no_iam(world: LedgerBuilder, query: Query) -> None:
    """Its requests are those of a service principal, which IAM policies of the foreign account do not limit."""
    foreign = {"StringEquals": {"aws:SourceAccount": STRANGER}}
    service = {
        "Sid": "Service",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "kms:Decrypt",
    }
    key(world, 1, service | {"Resource": "*", "Condition": foreign}, allow("Any", "*", "kms:Decrypt", **foreign))
    key(world, 2, allow("Named", f"arn:aws:iam::{STRANGER}:role/x", "kms:Decrypt"))
    world.crawl()
    assert query(
        "SELECT source_id, needs_iam FROM internal.key_access WHERE access = 'external' ORDER BY source_id"
    ) == [
        ("Any", False),
        ("Named", True),
        ("Service", False),
    ]


def test_everyone_is_public_only_without_restrictions(world: LedgerBuilder, query: Query) -> None:
    """A star with a condition on the caller's account is not public; with a condition on a service, it has its own class."""
    key(world, 1, allow("Own", "*", "kms:Decrypt", StringEquals={"kms:CallerAccount": OURS}))
    key(world, 2, allow("Service", "*", "kms:Decrypt", StringEquals={"kms:ViaService": "s3.eu-west-1.amazonaws.com"}))
    key(world, 3, allow("All", "*", "kms:Decrypt"))
    world.crawl()
    rows = query(
        "SELECT source_id, list(access ORDER BY access) FROM internal.key_access WHERE path = 'policy' "
        "GROUP BY ALL ORDER BY source_id"
    )
    assert dict(rows) == {
        "Own": ["owner_direct"],
        "Service": ["owner_direct", "public_via_service"],
        "All": ["owner_direct", "public"],
        "Enable IAM policies": ["owner_delegated"] * 3,
    }


def test_accounts_and_parties_determine_the_class(world: LedgerBuilder, query: Query) -> None:
    """Accounts of the organization, known parties and strangers have their own class and name, also in the message."""
    key(world, 1, allow("Others", [SISTER, PARTNER, STRANGER], "kms:Decrypt"))
    world.crawl()
    assert query(
        "SELECT principal_account, access, party, contains(message, coalesce('(' || party || ')', '')), "
        "contains(message, '{') FROM internal.key_access WHERE source_id = 'Others' ORDER BY principal_account"
    ) == [
        (SISTER, "organization", "Data", True, False),
        (PARTNER, "vendor", "Partner", True, False),
        (STRANGER, "external", None, True, False),
    ]


def test_a_new_account_or_party_needs_no_new_analysis(world: LedgerBuilder, settings: Settings) -> None:
    """The mart build resolves parties: a foreign account that joins the organization changes its class at once."""
    key(world, 1, allow("Other", STRANGER, "kms:Decrypt"))
    world.crawl()
    build_mart(settings)
    world.account(STRANGER, "New", REGION)
    world.crawl()
    assert analyze_access(settings).policies == 0
    build_mart(settings)
    with connect(settings.report.mart) as mart:
        assert mart.execute("SELECT access, party FROM internal.key_access WHERE source_id = 'Other'").fetchall() == [
            ("organization", "New")
        ]


def test_access_start_survives_policy_changes(world: LedgerBuilder, query: Query) -> None:
    """Access continues across policy versions and access paths; it starts again after an interruption."""
    shared = key(world, 1, allow("First", PARTNER, "kms:Decrypt"))
    interrupted = key(world, 2, allow("First", PARTNER, "kms:Decrypt"))
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Second", f"arn:aws:iam::{PARTNER}:root", "kms:Encrypt")])
    world.policy(interrupted, [root_statement(OURS)])
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Third", PARTNER, "kms:*")])
    world.policy(interrupted, [root_statement(OURS), allow("First", PARTNER, "kms:Decrypt")])
    world.crawl()
    template = "SELECT source_id, since_run FROM internal.key_access{} WHERE access = 'vendor' ORDER BY since_run"
    assert query(template.format("")) == [("Third", 1), ("First", 3)]
    assert query(template.format("_as_of(2)")) == [("Second", 1)]
    assert query("SELECT key_arn = '" + shared + "', since_run FROM vendors ORDER BY 2") == [(True, 1), (False, 3)]


def test_alternative_paths(world: LedgerBuilder, query: Query) -> None:
    """Other statements and grants for the principal or its whole account are alternatives for the same operations."""
    role = f"arn:aws:iam::{PARTNER}:role/reader"
    shared = key(
        world,
        1,
        allow("Role", role, "kms:Decrypt", "kms:Encrypt"),
        allow("Account", PARTNER, "kms:Decrypt"),
        allow("Signing", role, "kms:DescribeKey"),
    )
    world.grant(shared, "cd" * 32, grantee_principal=role)
    world.crawl()
    alternatives: dict[str, list[str]] = dict(
        query("SELECT source_id, alternative_paths FROM internal.key_access WHERE access = 'vendor'")
    )
    assert alternatives == {
        "Role": ["Account", "cd" * 32],
        "Account": [],
        "Signing": [],
        "cd" * 32: ["Account", "Role"],
    }
    ((party, operations, fallbacks),) = query("SELECT party, operations, fallback_paths FROM vendors")
    assert (party, operations) == (
        "Partner",
        ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
    )
    assert fallbacks["Account"] == ["Role", "Signing", "cd" * 32]


def test_vendor_row_has_the_dependent_resources(world: LedgerBuilder, query: Query) -> None:
    """A vendor's row has the number and the names of the resources that depend on the key."""
    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.uses(world.database(OURS, REGION, "orders"), shared)
    world.crawl()
    assert query("SELECT party, access, dependent_count, dependents, paths, last_use FROM vendors") == [
        ("Partner", "vendor", 1, ["orders"], ["Vendor"], "unknown")
    ]


def test_every_key_has_a_row(world: LedgerBuilder, query: Query) -> None:
    """A key whose policy or grants were denied or unreadable has rows with the reason."""
    denied = key(world, 1, policy=None)
    world.gap(OURS, REGION, "kms:GetKeyPolicy", denied, "key_policy")
    world.gap(OURS, REGION, "kms:ListGrants", denied, "role_permission")
    key(world, 2, policy="no JSON")
    key(world, 3, policy=None, manager="AWS")
    world.crawl()
    rows = query("SELECT right(key_arn, 1), path, access, reason FROM internal.key_access ORDER BY 1, 2")
    assert rows == [
        ("1", "grant", "unknown", "the grants could not be read: the crawler's role lacks the permission"),
        (
            "1",
            "policy",
            "unknown",
            f"the policy could not be read: {Cause.KEY_POLICY.text}",
        ),
        ("2", "policy", "unknown", "the policy could not be parsed"),
        ("3", "policy", "unknown", "the policies of AWS managed keys are not requested"),
    ]
    assert query("SELECT code FROM key_policy_problems") == [("unreadable",)]


def test_deny_removes_operations_of_a_grant(world: LedgerBuilder, query: Query) -> None:
    """A Deny in the key policy that tests the encryption context affects only matching grants."""
    role = f"arn:aws:iam::{OURS}:role/reader"
    deny = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
    tenant = {"StringEquals": {"kms:EncryptionContext:tenant": "two"}}
    shared = key(world, 1, deny | {"Condition": tenant})
    for grant, value in (("aa" * 32, "one"), ("bb" * 32, "two")):
        constraints = f'{{"EncryptionContextEquals":{{"tenant":"{value}"}}}}'
        world.grant(shared, grant, grantee_principal=role, constraints=constraints)
    world.crawl()
    assert query(
        "SELECT left(source_id, 2), operations, conditions FROM internal.key_access WHERE path = 'grant' ORDER BY source_id"
    ) == [
        ("aa", ["kms:Decrypt", "kms:GenerateDataKey"], "only encryption context tenant=one"),
        ("bb", ["kms:GenerateDataKey"], "only encryption context tenant=two"),
    ]


def test_access_as_of_an_earlier_run(world: LedgerBuilder, settings: Settings) -> None:
    """A mart opened as of a run shows the access of that run."""
    shared = key(world, 1)
    world.grant(shared, "ab" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.crawl()
    world.remove(KeyGrant, shared, "ab" * 32)
    world.policy(shared, [root_statement(OURS), allow("Vendor", PARTNER, "kms:Decrypt")])
    world.crawl()
    build_mart(settings)
    sql = "SELECT access, since_run FROM internal.key_access WHERE access IN ('external', 'vendor')"
    connection, _ = as_of_connection.connect(settings.report.mart, 1)
    with connection:
        assert connection.execute(sql).fetchall() == [("external", 1)]
    with connect(settings.report.mart) as mart:
        assert mart.execute(sql).fetchall() == [("vendor", 2)]


def ledger_rows(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    engine = connect_ledger(settings.database)
    with engine.connect() as connection:
        result = [tuple(row) for row in connection.execute(text(sql))]
    engine.dispose()
    return result


def test_only_changes_are_analyzed(world: LedgerBuilder, settings: Settings) -> None:
    """Keys with the same policy share an analysis; a run without changes writes nothing, a new policy needs one analysis."""
    keys = [key(world, number) for number in range(5)]
    world.grant(keys[0], "ab" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.grant(keys[1], "cd" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.crawl()
    first = analyze_access(settings)
    assert (first.policies, first.grants, first.keys) == (1, 1, 5)
    before = ledger_rows(settings, "SELECT * FROM key_analysis ORDER BY version_id")
    world.crawl()
    again = analyze_access(settings)
    assert (again.policies, again.grants, again.keys) == (0, 0, 0)
    assert ledger_rows(settings, "SELECT * FROM key_analysis ORDER BY version_id") == before
    world.policy(keys[4], [root_statement(OURS), allow("Vendor", PARTNER, "kms:Decrypt")])
    world.crawl()
    changed = analyze_access(settings)
    assert (changed.policies, changed.grants, changed.keys) == (1, 0, 1)
    intervals = f"SELECT valid_from, valid_to FROM key_analysis WHERE key_arn = '{keys[4]}' ORDER BY valid_from"
    assert ledger_rows(settings, intervals) == [(1, 3), (3, None)]


def test_skipped_runs_are_analyzed_later(world: LedgerBuilder, settings: Settings) -> None:
    """An analysis also covers the policy versions of earlier runs without an analysis."""
    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.crawl()
    analyze_access(settings)
    world.policy(shared, [root_statement(OURS)])
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Vendor", STRANGER, "kms:Decrypt")])
    world.crawl()
    analyze_access(settings)
    intervals = "SELECT valid_from, valid_to FROM key_analysis ORDER BY valid_from"
    assert ledger_rows(settings, intervals) == [(1, 2), (2, 3), (3, None)]
    world.remove(Key, shared)
    world.crawl()
    analyze_access(settings)
    assert ledger_rows(settings, intervals) == [(1, 2), (2, 3), (3, 4)]


def test_changed_tags_need_a_new_analysis(world: LedgerBuilder, settings: Settings) -> None:
    """When a tag that the policy tests changes, the run closes the old analysis and starts another."""
    condition = {"StringEquals": {"aws:ResourceTag/share": "yes"}}
    shared = key(world, 1, allow("Tagged", STRANGER, "kms:Decrypt", **condition))
    world.crawl()
    analyze_access(settings)
    world.tag(shared, share="yes")
    world.crawl()
    build_mart(settings)
    assert ledger_rows(settings, "SELECT valid_from, valid_to FROM key_analysis ORDER BY valid_from") == [
        (1, 2),
        (2, None),
    ]
    with connect(settings.report.mart) as mart:
        assert mart.execute(
            "SELECT access, since_run FROM internal.key_access WHERE source_id = 'Tagged'"
        ).fetchall() == [("external", 2)]


def test_new_engine_version_analyzes_everything_again(
    world: LedgerBuilder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of the engine version, everything is analyzed again without a crawl, and old results are deleted."""
    key(world, 1)
    world.crawl()
    analyze_access(settings)
    monkeypatch.setattr(stage, "ENGINE", "next")
    assert analyze_access(settings).policies == 1
    assert ledger_rows(settings, "SELECT DISTINCT engine FROM access_analysis") == [("next",)]
    assert analyze_access(settings).policies == 0
    assert analyze_access(settings, redo=True).policies == 1


def test_pruning_policies_deletes_their_analyses(world: LedgerBuilder, settings: Settings) -> None:
    """Pruning deletes policies that no remaining run references, together with their analyses."""
    import datetime as dt

    from models.store.retention import prune

    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.crawl()
    analyze_access(settings)
    world.policy(shared, [root_statement(OURS)])
    world.crawl()
    world.crawl()
    analyze_access(settings)
    assert ledger_rows(settings, "SELECT count(*) FROM access_analysis") == [(2,)]
    engine = connect_ledger(settings.database)
    prune(engine, dt.timedelta(0), now=dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    engine.dispose()
    assert ledger_rows(settings, "SELECT count(*) FROM access_analysis") == [(1,)]
    assert ledger_rows(settings, "SELECT DISTINCT source_id FROM access_verdict") == [("Enable IAM policies",)]
    build_mart(settings)
