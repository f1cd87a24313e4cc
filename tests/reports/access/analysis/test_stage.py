"""Who can use which key, as the mart tells it: classes, since when, what else remains, and what is not known."""

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
from reports.access.analysis import stage
from reports.access.analysis.stage import analyze_access
from reports.mart import as_of_connection
from reports.mart.connection import connect
from tests.reports.ledger_builder import World, build_mart, root_statement, settings_of

OURS, SISTER = "111122223333", "444455556666"
PARTNER, STRANGER = "754581900792", "999900001111"
REGION = "eu-west-1"
Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.account(OURS, "Shop", REGION)
    found.account(SISTER, "Data", REGION)
    return found


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Settings:
    parties = [{"name": "Partner", "accounts": [PARTNER]}]
    return settings_of(database=world.url, known_external_parties=parties, report={"mart": tmp_path / "mart.duckdb"})


@pytest.fixture
def ask(settings: Settings) -> Iterator[Ask]:
    """Rebuild the mart at the first question, and answer it."""
    connections: list[duckdb.DuckDBPyConnection] = []

    def asked(query: str) -> list[tuple[Any, ...]]:
        if not connections:
            build_mart(settings)
            connections.append(connect(settings.report.mart))
        return connections[0].execute(query).fetchall()

    yield asked
    for connection in connections:
        connection.close()


def allow(sid: str, principal: Any, *actions: str, **condition: dict[str, Any]) -> dict[str, Any]:
    who = principal if principal == "*" else {"AWS": principal}
    found = {"Sid": sid, "Effect": "Allow", "Principal": who, "Action": list(actions), "Resource": "*"}
    return found | ({"Condition": condition} if condition else {})


def key(world: World, number: int, *statements: dict[str, Any], account: str = OURS, **values: Any) -> str:
    policy = [root_statement(account), *statements]
    return world.key(account, REGION, f"00000000-0000-4000-8000-{number:012d}", **({"policy": policy} | values))


def test_a_share_by_grant_alone_is_external_access(world: World, ask: Ask) -> None:
    """A grant to another account leaves no trace in the key policy and is told with its id, scope and need of IAM."""
    shared = key(world, 1)
    world.grant(
        shared,
        "ab" * 32,
        grantee_principal=f"arn:aws:iam::{STRANGER}:root",
        constraints='{"EncryptionContextSubset":{"tenant":"one","zone":"x"},"SourceArn":"arn:aws:sns:x"}',
    )
    world.crawl()
    (row,) = ask(
        "SELECT principal_account, path, source_id, operations, scope, needs_iam, message FROM internal.key_access "
        "WHERE access = 'external'"
    )
    scope = "encryption context tenant=one, zone=x; only for arn:aws:sns:x"
    assert row[:6] == (STRANGER, "grant", "ab" * 32, ["kms:Decrypt", "kms:GenerateDataKey"], scope, True)
    assert row[6] == (
        f"Account {STRANGER} can kms:Decrypt, kms:GenerateDataKey through grant {'ab' * 32}, if its own IAM allows, {scope}."
    )


def test_everyone_is_public_only_when_nothing_narrows_it(world: World, ask: Ask) -> None:
    """A star scoped by the caller's account is no public access, and one with a service alone is a class of its own."""
    key(world, 1, allow("Own", "*", "kms:Decrypt", StringEquals={"kms:CallerAccount": OURS}))
    key(world, 2, allow("Service", "*", "kms:Decrypt", StringEquals={"kms:ViaService": "s3.eu-west-1.amazonaws.com"}))
    key(world, 3, allow("All", "*", "kms:Decrypt"))
    world.crawl()
    found = ask(
        "SELECT source_id, list(access ORDER BY access) FROM internal.key_access WHERE path = 'policy' GROUP BY ALL ORDER BY source_id"
    )
    assert dict(found) == {
        "Own": ["owner_direct"],
        "Service": ["owner_direct", "public_via_service"],
        "All": ["owner_direct", "public"],
        "Enable IAM policies": ["owner_delegated"] * 3,
    }


def test_who_is_who_is_told_by_accounts_and_parties(world: World, ask: Ask) -> None:
    """An account of ours, a known party and a stranger are told apart and named, in the sentence too."""
    key(world, 1, allow("Others", [SISTER, PARTNER, STRANGER], "kms:Decrypt"))
    world.crawl()
    assert ask(
        "SELECT principal_account, access, party, contains(message, coalesce('(' || party || ')', '')), "
        "contains(message, '{') FROM internal.key_access WHERE source_id = 'Others' ORDER BY principal_account"
    ) == [
        (SISTER, "organization", "Data", True, False),
        (PARTNER, "vendor", "Partner", True, False),
        (STRANGER, "external", None, True, False),
    ]


def test_a_new_account_or_party_needs_no_new_analysis(world: World, settings: Settings) -> None:
    """Who is who is looked up when the mart is built: a stranger who joins the organization is one of us at once."""
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


def test_since_when_outlives_the_edits_of_a_policy(world: World, ask: Ask) -> None:
    """Access lasts through other versions of the policy and other ways; it begins anew when it was gone in between."""
    shared = key(world, 1, allow("First", PARTNER, "kms:Decrypt"))
    back = key(world, 2, allow("First", PARTNER, "kms:Decrypt"))
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Second", f"arn:aws:iam::{PARTNER}:root", "kms:Encrypt")])
    world.policy(back, [root_statement(OURS)])
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Third", PARTNER, "kms:*")])
    world.policy(back, [root_statement(OURS), allow("First", PARTNER, "kms:Decrypt")])
    world.crawl()
    query = "SELECT source_id, since_run FROM internal.key_access{} WHERE access = 'vendor' ORDER BY since_run"
    assert ask(query.format("")) == [("Third", 1), ("First", 3)]
    assert ask(query.format("_as_of(2)")) == [("Second", 1)]
    assert ask("SELECT key_arn = '" + shared + "', since_run FROM vendors ORDER BY 2") == [(True, 1), (False, 3)]


def test_what_remains_when_a_way_is_closed(world: World, ask: Ask) -> None:
    """Other statements and grants to the same principal, and ways of its whole account, remain for the same operations."""
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
    found: dict[str, list[str]] = dict(
        ask("SELECT source_id, alternative_paths FROM internal.key_access WHERE access = 'vendor'")
    )
    assert found == {"Role": ["Account", "cd" * 32], "Account": [], "Signing": [], "cd" * 32: ["Account", "Role"]}
    ((party, operations, without),) = ask("SELECT party, operations, fallback_paths FROM vendors")
    assert (party, operations) == (
        "Partner",
        ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"],
    )
    assert without["Account"] == ["Role", "Signing", "cd" * 32]


def test_what_a_vendor_reaches_is_told_with_it(world: World, ask: Ask) -> None:
    """A vendor's row counts and names the resources under the key."""
    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.uses(world.database(OURS, REGION, "orders"), shared)
    world.crawl()
    assert ask("SELECT party, access, dependent_count, dependents, paths, last_use FROM vendors") == [
        ("Partner", "vendor", 1, ["orders"], ["Vendor"], "unknown")
    ]


def test_no_key_is_silently_absent(world: World, ask: Ask) -> None:
    """A key whose policy or grants were refused, or cannot be read, has rows that say so and why."""
    refused = key(world, 1, policy=None)
    world.gap(OURS, REGION, "kms:GetKeyPolicy", refused, "key_policy")
    world.gap(OURS, REGION, "kms:ListGrants", refused, "role_permission")
    key(world, 2, policy="no JSON")
    key(world, 3, policy=None, manager="AWS")
    world.crawl()
    found = ask("SELECT right(key_arn, 1), path, access, reason FROM internal.key_access ORDER BY 1, 2")
    assert found == [
        ("1", "grant", "unknown", "the grants could not be read: our role lacks the permission"),
        (
            "1",
            "policy",
            "unknown",
            "the policy could not be read: the key policy does not let the account's IAM policies decide, nor names our role",
        ),
        ("2", "policy", "unknown", "the policy cannot be read"),
        ("3", "policy", "unknown", "the policies of AWS managed keys are not asked for"),
    ]
    assert ask("SELECT code FROM key_policy_problems") == [("unreadable",)]


def test_a_deny_takes_a_grant_away_again(world: World, ask: Ask) -> None:
    """A Deny in the key policy that can tell grants apart does so."""
    role = f"arn:aws:iam::{OURS}:role/reader"
    deny = {"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
    tenant = {"StringEquals": {"kms:EncryptionContext:tenant": "two"}}
    shared = key(world, 1, deny | {"Condition": tenant})
    for grant, value in (("aa" * 32, "one"), ("bb" * 32, "two")):
        constraints = f'{{"EncryptionContextEquals":{{"tenant":"{value}"}}}}'
        world.grant(shared, grant, grantee_principal=role, constraints=constraints)
    world.crawl()
    assert ask(
        "SELECT left(source_id, 2), operations, scope FROM internal.key_access WHERE path = 'grant' ORDER BY source_id"
    ) == [
        ("aa", ["kms:Decrypt", "kms:GenerateDataKey"], "only encryption context tenant=one"),
        ("bb", ["kms:GenerateDataKey"], "only encryption context tenant=two"),
    ]


def test_an_earlier_run_is_answered_with_what_was_known_then(world: World, settings: Settings) -> None:
    """A mart opened as of a run tells the access of that run."""
    shared = key(world, 1)
    world.grant(shared, "ab" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.crawl()
    world.remove(KeyGrant, shared, "ab" * 32)
    world.policy(shared, [root_statement(OURS), allow("Vendor", PARTNER, "kms:Decrypt")])
    world.crawl()
    build_mart(settings)
    query = "SELECT access, since_run FROM internal.key_access WHERE access IN ('external', 'vendor')"
    connection, _ = as_of_connection.connect(settings.report.mart, 1)
    with connection:
        assert connection.execute(query).fetchall() == [("external", 1)]
    with connect(settings.report.mart) as mart:
        assert mart.execute(query).fetchall() == [("vendor", 2)]


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    engine = connect_ledger(settings.database)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def test_only_what_changed_is_analysed_again(world: World, settings: Settings) -> None:
    """Keys with one policy cost one analysis; a night without changes writes nothing, and one new policy costs one."""
    keys = [key(world, number) for number in range(5)]
    world.grant(keys[0], "ab" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.grant(keys[1], "cd" * 32, grantee_principal=f"arn:aws:iam::{STRANGER}:root")
    world.crawl()
    first = analyze_access(settings)
    assert (first.policies, first.grants, first.keys) == (1, 1, 5)
    kept = rows(settings, "SELECT * FROM key_analysis ORDER BY version_id")
    world.crawl()
    again = analyze_access(settings)
    assert (again.policies, again.grants, again.keys) == (0, 0, 0)
    assert rows(settings, "SELECT * FROM key_analysis ORDER BY version_id") == kept
    world.policy(keys[4], [root_statement(OURS), allow("Vendor", PARTNER, "kms:Decrypt")])
    world.crawl()
    changed = analyze_access(settings)
    assert (changed.policies, changed.grants, changed.keys) == (1, 0, 1)
    intervals = f"SELECT valid_from, valid_to FROM key_analysis WHERE key_arn = '{keys[4]}' ORDER BY valid_from"
    assert rows(settings, intervals) == [(1, 3), (3, None)]


def test_nights_that_were_not_analysed_are_made_up_for(world: World, settings: Settings) -> None:
    """What was true in nights before the first analysis, or between two, is told with the runs in which it was."""
    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.crawl()
    analyze_access(settings)
    world.policy(shared, [root_statement(OURS)])
    world.crawl()
    world.policy(shared, [root_statement(OURS), allow("Vendor", STRANGER, "kms:Decrypt")])
    world.crawl()
    analyze_access(settings)
    intervals = "SELECT valid_from, valid_to FROM key_analysis ORDER BY valid_from"
    assert rows(settings, intervals) == [(1, 2), (2, 3), (3, None)]
    world.remove(Key, shared)
    world.crawl()
    analyze_access(settings)
    assert rows(settings, intervals) == [(1, 2), (2, 3), (3, 4)]


def test_a_policy_that_looks_at_tags_is_judged_again_when_they_change(world: World, settings: Settings) -> None:
    """The policy is the same, the tag is not: the conclusion ends and another begins, in that run."""
    condition = {"StringEquals": {"aws:ResourceTag/share": "yes"}}
    shared = key(world, 1, allow("Tagged", STRANGER, "kms:Decrypt", **condition))
    world.crawl()
    analyze_access(settings)
    world.tag(shared, share="yes")
    world.crawl()
    build_mart(settings)
    assert rows(settings, "SELECT valid_from, valid_to FROM key_analysis ORDER BY valid_from") == [(1, 2), (2, None)]
    with connect(settings.report.mart) as mart:
        assert mart.execute(
            "SELECT access, since_run FROM internal.key_access WHERE source_id = 'Tagged'"
        ).fetchall() == [("external", 2)]


def test_another_engine_judges_everything_again(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the engine's version changes, everything is analysed anew without a crawl, and nothing of the old one stays."""
    key(world, 1)
    world.crawl()
    analyze_access(settings)
    monkeypatch.setattr(stage, "ENGINE", "next")
    assert analyze_access(settings).policies == 1
    assert rows(settings, "SELECT DISTINCT engine FROM access_analysis") == [("next",)]
    assert analyze_access(settings).policies == 0
    assert analyze_access(settings, redo=True).policies == 1


def test_pruned_policies_take_their_analyses_along(world: World, settings: Settings) -> None:
    """What no kept run knew is forgotten with all that was concluded from it."""
    import datetime as dt

    from models.store.retention import prune

    shared = key(world, 1, allow("Vendor", PARTNER, "kms:Decrypt"))
    world.crawl()
    analyze_access(settings)
    world.policy(shared, [root_statement(OURS)])
    world.crawl()
    world.crawl()
    analyze_access(settings)
    assert rows(settings, "SELECT count(*) FROM access_analysis") == [(2,)]
    engine = connect_ledger(settings.database)
    prune(engine, dt.timedelta(0), now=dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    engine.dispose()
    assert rows(settings, "SELECT count(*) FROM access_analysis") == [(1,)]
    assert rows(settings, "SELECT DISTINCT source_id FROM access_verdict") == [("Enable IAM policies",)]
    build_mart(settings)
