"""Access analysis in the ledger and the mart: classes, since when, alternative paths, and unknowns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from tests.reports.scenarios import crawl_side_by_side

OURS, SISTER = "111122223333", "444455556666"
PARTNER, STRANGER, NEWCOMER = "754581900792", "999900001111", "999900002222"
REGION = "eu-west-1"
ACCOUNTS = (
    *(GRANT, SERVICE, EVERYONE, CLASSES, ALTERNATIVES, DEPENDENTS, UNREAD, DENIED, POLICY_CHANGES, EARLIER, TAGGED),
) = tuple(f"{number:012d}" for number in range(1, 12))
"""One account for each scenario that shares the ledger."""
Query = Callable[[str, str], list[tuple[Any, ...]]]


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """Two accounts without keys, for a test that changes the ledger."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(OURS, "Shop", REGION)
    world.account(SISTER, "Data", REGION)
    return world


@pytest.fixture
def settings(world: LedgerBuilder) -> Settings:
    return _settings(world)


def _settings(world: LedgerBuilder) -> Settings:
    parties = [{"name": "Partner", "accounts": [PARTNER]}]
    mart = Path(world.url.removeprefix("sqlite:///")).with_name("mart.duckdb")
    return settings_of(database=world.url, known_external_parties=parties, report={"mart": mart})


@dataclass(frozen=True)
class Scenarios:
    """The mart of an account for each scenario, three runs, and a run in which only account NEWCOMER joins."""

    settings: Settings
    mart: duckdb.DuckDBPyConnection
    analyzed_after_join: int


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    """The scenarios of this file that share a ledger."""
    world = LedgerBuilder(f"sqlite:///{tmp_path_factory.mktemp('scenarios') / 'ledger.db'}")
    world.account(SISTER, "Data", REGION)
    for account in ACCOUNTS:
        world.account(account, "Shop", REGION)
    settings = _settings(world)
    for write in (_grant, _service, _everyone, _classes, _alternatives, _dependents, _unread, _denied):
        write(world)
    crawl_side_by_side(world, _policy_changes(world), _earlier(world), _tagged(world, settings))
    build_mart(settings)
    world.account(NEWCOMER, "New", REGION)
    world.crawl()
    analyzed = analyze_access(settings).policies
    build_mart(settings)
    with connect(settings.report.mart) as mart:
        yield Scenarios(settings, mart, analyzed)


@pytest.fixture
def query(scenarios: Scenarios) -> Query:
    """Return a function that queries the mart of the scenarios for an account, which SQL names `$account`."""
    return lambda account, sql: scenarios.mart.execute(sql, {"account": account}).fetchall()


def allow(sid: str, principal: Any, *actions: str, **condition: dict[str, Any]) -> dict[str, Any]:
    element = principal if principal == "*" else {"AWS": principal}
    statement = {"Sid": sid, "Effect": "Allow", "Principal": element, "Action": list(actions), "Resource": "*"}
    return statement | ({"Condition": condition} if condition else {})


def key(world: LedgerBuilder, number: int, *statements: dict[str, Any], account: str = OURS, **values: Any) -> str:
    policy = [root_statement(account), *statements]
    return world.key(account, REGION, f"00000000-0000-4000-8000-{number:012d}", **({"policy": policy} | values))


def _grant(world: LedgerBuilder) -> None:
    shared = key(world, 1, account=GRANT)
    world.grant(
        shared,
        "ab" * 32,
        grantee_principal=f"arn:aws:iam::{STRANGER}:root",
        operations='["Decrypt","DescribeKey"]',
        constraints='{"EncryptionContextSubset":{"tenant":"one","zone":"x"},"SourceArn":"arn:aws:sns:x"}',
    )


def test_grant_to_a_foreign_account_is_external_access(query: Query) -> None:
    """A grant to another account is reported with its id, its conditions and its dependency on IAM."""
    (row,) = query(
        GRANT,
        "SELECT principal_account, path, source_id, operations, conditions, needs_iam, message FROM internal.key_access "
        "WHERE account_id = $account AND access = 'external'",
    )
    conditions = "encryption context tenant=one, zone=x; only for arn:aws:sns:x; DescribeKey without encryption context"
    assert row[:6] == (STRANGER, "grant", "ab" * 32, ["kms:Decrypt", "kms:DescribeKey"], conditions, True)
    assert row[6] == (
        f"Account {STRANGER} can kms:Decrypt, kms:DescribeKey through grant {'ab' * 32}, "
        f"if its own IAM policies allow it, {conditions}."
    )


def _service(world: LedgerBuilder) -> None:
    foreign = {"StringEquals": {"aws:SourceAccount": STRANGER}}
    service = {
        "Sid": "Service",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "kms:Decrypt",
    }
    key(
        world,
        1,
        service | {"Resource": "*", "Condition": foreign},
        allow("Any", "*", "kms:Decrypt", **foreign),
        account=SERVICE,
    )
    key(world, 2, allow("Named", f"arn:aws:iam::{STRANGER}:role/x", "kms:Decrypt"), account=SERVICE)


def test_a_service_that_acts_for_a_foreign_account_needs_no_iam(query: Query) -> None:
    """Its requests are those of a service principal, which IAM policies of the foreign account do not limit."""
    assert query(
        SERVICE,
        "SELECT source_id, needs_iam FROM internal.key_access WHERE account_id = $account AND access = 'external' "
        "ORDER BY source_id",
    ) == [
        ("Any", False),
        ("Named", True),
        ("Service", False),
    ]


def _everyone(world: LedgerBuilder) -> None:
    key(world, 1, allow("Own", "*", "kms:Decrypt", StringEquals={"kms:CallerAccount": EVERYONE}), account=EVERYONE)
    through_s3 = {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}
    key(world, 2, allow("Service", "*", "kms:Decrypt", StringEquals=through_s3), account=EVERYONE)
    key(world, 3, allow("All", "*", "kms:Decrypt"), account=EVERYONE)


def test_everyone_is_public_only_without_restrictions(query: Query) -> None:
    """A star with a condition on the caller's account is not public; with a condition on a service, it has its own class."""
    rows = query(
        EVERYONE,
        "SELECT source_id, list(access ORDER BY access) FROM internal.key_access WHERE account_id = $account AND path = 'policy' "
        "GROUP BY ALL ORDER BY source_id",
    )
    assert dict(rows) == {
        "Own": ["owner_direct"],
        "Service": ["owner_direct", "public_via_service"],
        "All": ["owner_direct", "public"],
        "Enable IAM policies": ["owner_delegated"] * 3,
    }


def _classes(world: LedgerBuilder) -> None:
    key(world, 1, allow("Others", [SISTER, PARTNER, STRANGER], "kms:Decrypt"), account=CLASSES)
    key(world, 2, allow("Newcomer", NEWCOMER, "kms:Decrypt"), account=CLASSES)


def test_accounts_and_parties_determine_the_class(query: Query) -> None:
    """Accounts of the organization, known parties and strangers have their own class and name, also in the message."""
    assert query(
        CLASSES,
        "SELECT principal_account, access, party, contains(message, coalesce('(' || party || ')', '')), "
        "contains(message, '{') FROM internal.key_access WHERE account_id = $account AND source_id = 'Others' "
        "ORDER BY principal_account",
    ) == [
        (SISTER, "organization", "Data", True, False),
        (PARTNER, "vendor", "Partner", True, False),
        (STRANGER, "external", None, True, False),
    ]


def test_a_new_account_or_party_needs_no_new_analysis(scenarios: Scenarios, query: Query) -> None:
    """The mart build resolves parties: a foreign account that joins the organization changes its class at once."""
    assert scenarios.analyzed_after_join == 0
    sql = "SELECT access, party FROM internal.key_access WHERE source_id = 'Newcomer' AND account_id = $account"
    assert query(CLASSES, sql) == [("organization", "New")]


def _policy_changes(world: LedgerBuilder) -> Iterator[None]:
    shared = key(world, 1, allow("First", PARTNER, "kms:Decrypt"), account=POLICY_CHANGES)
    interrupted = key(world, 2, allow("First", PARTNER, "kms:Decrypt"), account=POLICY_CHANGES)
    yield
    world.policy(
        shared, [root_statement(POLICY_CHANGES), allow("Second", f"arn:aws:iam::{PARTNER}:root", "kms:Encrypt")]
    )
    world.policy(interrupted, [root_statement(POLICY_CHANGES)])
    yield
    world.policy(shared, [root_statement(POLICY_CHANGES), allow("Third", PARTNER, "kms:*")])
    world.policy(interrupted, [root_statement(POLICY_CHANGES), allow("First", PARTNER, "kms:Decrypt")])
    yield


def test_access_start_survives_policy_changes(query: Query) -> None:
    """Access continues across policy versions and access paths; it starts again after an interruption."""
    template = (
        "SELECT source_id, since_run FROM internal.key_access{} WHERE account_id = $account AND access = 'vendor' "
        "ORDER BY since_run"
    )
    assert query(POLICY_CHANGES, template.format("")) == [("Third", 1), ("First", 3)]
    assert query(POLICY_CHANGES, template.format("_as_of(2)")) == [("Second", 1)]
    vendors = "SELECT right(key_arn, 1), since_run FROM vendors WHERE account_id = $account ORDER BY 2"
    assert query(POLICY_CHANGES, vendors) == [("1", 1), ("2", 3)]


def _alternatives(world: LedgerBuilder) -> None:
    role = f"arn:aws:iam::{PARTNER}:role/reader"
    shared = key(
        world,
        1,
        allow("Role", role, "kms:Decrypt", "kms:Encrypt"),
        allow("Account", PARTNER, "kms:Decrypt"),
        allow("Signing", role, "kms:DescribeKey"),
        account=ALTERNATIVES,
    )
    world.grant(shared, "cd" * 32, grantee_principal=role)


def test_alternative_paths(query: Query) -> None:
    """Other statements and grants for the principal or its whole account are alternatives for the same operations."""
    alternatives: dict[str, list[str]] = dict(
        query(
            ALTERNATIVES,
            "SELECT source_id, alternative_paths FROM internal.key_access WHERE account_id = $account "
            "AND access = 'vendor'",
        )
    )
    assert alternatives == {
        "Role": ["Account", "cd" * 32],
        "Account": [],
        "Signing": [],
        "cd" * 32: ["Account", "Role"],
    }
    ((party, operations, fallbacks),) = query(
        ALTERNATIVES,
        "SELECT party, operations, fallback_paths FROM vendors WHERE account_id = $account",
    )
    assert (party, operations) == (
        "Partner",
        ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
    )
    assert fallbacks["Account"] == ["Role", "Signing", "cd" * 32]


def _dependents(world: LedgerBuilder) -> None:
    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"), account=DEPENDENTS)
    world.uses(world.database(DEPENDENTS, REGION, "orders"), shared)


def test_vendor_row_has_the_dependent_resources(query: Query) -> None:
    """A vendor's row has the number and the names of the resources that depend on the key."""
    assert query(
        DEPENDENTS,
        "SELECT party, access, dependent_count, dependents, paths, last_use FROM vendors WHERE account_id = $account",
    ) == [("Partner", "vendor", 1, ["orders"], ["Vendor"], "unknown")]


def _unread(world: LedgerBuilder) -> None:
    denied = key(world, 1, policy=None, account=UNREAD)
    world.gap(UNREAD, REGION, "kms:GetKeyPolicy", denied, "key_policy")
    world.gap(UNREAD, REGION, "kms:ListGrants", denied, "role_permission")
    key(world, 2, policy="no JSON", account=UNREAD)
    key(world, 3, policy=None, manager="AWS", account=UNREAD)


def test_every_key_has_a_row(query: Query) -> None:
    """A key whose policy or grants were denied or unreadable has rows with the reason."""
    rows = query(
        UNREAD,
        "SELECT right(key_arn, 1), path, access, reason FROM internal.key_access WHERE account_id = $account "
        "ORDER BY 1, 2",
    )
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
    assert query(UNREAD, "SELECT code FROM key_policy_problems WHERE account_id = $account") == [("unreadable",)]


def _denied(world: LedgerBuilder) -> None:
    role = f"arn:aws:iam::{DENIED}:role/reader"
    deny = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
    tenant = {"StringEquals": {"kms:EncryptionContext:tenant": "two"}}
    shared = key(world, 1, deny | {"Condition": tenant}, account=DENIED)
    for grant, value in (("aa" * 32, "one"), ("bb" * 32, "two")):
        constraints = f'{{"EncryptionContextEquals":{{"tenant":"{value}"}}}}'
        world.grant(shared, grant, grantee_principal=role, constraints=constraints)


def test_deny_removes_operations_of_a_grant(query: Query) -> None:
    """A Deny in the key policy that tests the encryption context affects only matching grants."""
    assert query(
        DENIED,
        "SELECT left(source_id, 2), operations, conditions FROM internal.key_access WHERE account_id = $account "
        "AND path = 'grant' ORDER BY source_id",
    ) == [
        ("aa", ["kms:Decrypt", "kms:GenerateDataKey"], "only encryption context tenant=one"),
        ("bb", ["kms:GenerateDataKey"], "only encryption context tenant=two"),
    ]


def _earlier(world: LedgerBuilder) -> Iterator[None]:
    shared = key(world, 1, account=EARLIER)
    world.grant(shared, "ab" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    yield
    world.remove(KeyGrant, shared, "ab" * 32)
    world.policy(shared, [root_statement(EARLIER), allow("Vendor", PARTNER, "kms:Decrypt")])
    yield


def test_access_as_of_an_earlier_run(scenarios: Scenarios) -> None:
    """A mart opened as of a run shows the access of that run."""
    sql = (
        "SELECT access, since_run FROM internal.key_access "
        f"WHERE access IN ('external', 'vendor') AND account_id = '{EARLIER}'"
    )
    connection, _ = as_of_connection.connect(scenarios.settings.report.mart, 1)
    with connection:
        assert connection.execute(sql).fetchall() == [("external", 1)]
    assert scenarios.mart.execute(sql).fetchall() == [("vendor", 2)]


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


def test_grants_of_many_volumes_share_an_analysis(world: LedgerBuilder, settings: Settings) -> None:
    """Grants that differ only in sessions and constraint values share an analysis, unless a Deny can distinguish them."""
    tenant = {"StringEquals": {"kms:EncryptionContext:tenant": "two"}}
    deny = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"}
    policies: list[list[dict[str, Any]]] = [[], [deny], [deny | {"Condition": tenant}]]
    for number, statements in enumerate(policies):
        shared = key(world, number, *statements)
        for volume in range(3):
            world.grant(
                shared,
                f"{number}{volume}" * 32,
                grantee_principal=f"arn:aws:sts::{OURS}:assumed-role/aws:ec2-infrastructure/i-{volume}",
                constraints=f'{{"EncryptionContextSubset":{{"aws:ebs:id":"vol-{volume}"}}}}',
            )
    world.crawl()
    assert analyze_access(settings).grants == 1 + 1 + 3


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


def _tagged(world: LedgerBuilder, settings: Settings) -> Iterator[None]:
    condition = {"StringEquals": {"aws:ResourceTag/share": "yes"}}
    shared = key(world, 1, allow("Tagged", STRANGER, "kms:Decrypt", **condition), account=TAGGED)
    yield
    analyze_access(settings)
    yield
    world.tag(shared, share="yes")
    yield


def test_changed_tags_need_a_new_analysis(scenarios: Scenarios, query: Query) -> None:
    """When a tag that the policy tests changes, the run closes the old analysis and starts another."""
    intervals = f"SELECT valid_from, valid_to FROM key_analysis WHERE key_arn LIKE '%{TAGGED}%' ORDER BY valid_from"
    assert ledger_rows(scenarios.settings, intervals) == [(1, 3), (3, None)]
    sql = "SELECT access, since_run FROM internal.key_access WHERE source_id = 'Tagged' AND account_id = $account"
    assert query(TAGGED, sql) == [("external", 3)]


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
