"""IAM and resource policies in the mart: contents, completeness and history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.tables import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    ResourcePolicy,
    Tag,
)
from reports.mart import as_of_connection
from reports.mart.connection import connect
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of
from tests.reports.sample_ledger import DATA, IRELAND, LOCKED, MANAGEMENT, SHOP, VENDOR, sample_world

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
BOUNDARY = f"arn:aws:iam::{SHOP}:policy/no-keys"
ROLE, USER, GROUP = (f"arn:aws:iam::{SHOP}:{name}" for name in ("role/vendor", "user/ada", "group/team/developers"))
SECRET = f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:shop"


def statement(*actions: str, principal: Any = None) -> dict[str, Any]:
    who = {} if principal is None else {"Principal": principal}
    return {"Effect": "Allow", **who, "Action": list(actions), "Resource": "*"}


def first_run(world: LedgerBuilder) -> None:
    """Shop was read completely and Data partially; AssumeRole failed for Locked; the configuration excludes the others."""
    trust = world.document(statement("sts:AssumeRole", principal={"AWS": f"arn:aws:iam::{VENDOR}:root"}))
    decrypt = world.document(statement("kms:Decrypt"))
    everything = world.document(statement("*"))
    principal = {"account_id": SHOP, "path": "/"}
    world.add(IamScan, account_id=SHOP)
    world.add(IamPrincipal, arn=USER, type="user", name="ada", **principal)
    world.add(
        IamPrincipal,
        arn=ROLE,
        type="role",
        name="vendor",
        permissions_boundary_arn=BOUNDARY,
        policy_hash=trust,
        **principal,
    )
    world.add(IamGroup, arn=GROUP, account_id=SHOP, name="developers", path="/team/")
    world.add(IamMembership, user_arn=USER, group_name="developers", account_id=SHOP)
    world.add(IamAttachment, owner_arn=GROUP, policy_arn=ADMINISTRATOR, account_id=SHOP)
    world.add(IamInlinePolicy, owner_arn=ROLE, name="keys", account_id=SHOP, policy_hash=decrypt)
    version = {"default_version": "v3", "policy_hash": everything}
    world.add(IamManagedPolicy, policy_arn=ADMINISTRATOR, account_id="aws", name="AdministratorAccess", **version)
    world.add(Tag, resource_arn=ROLE, tag_key="vendor", tag_value="one")
    world.outcomes[DATA, "global"] = ("complete", None)
    world.add(IamPrincipal, arn=f"arn:aws:iam::{DATA}:role/a", account_id=DATA, type="role", name="a")
    world.gap(DATA, "global", "iam:GetAccountAuthorizationDetails", cause="role_permission")
    reader = {"AWS": f"arn:aws:iam::{DATA}:role/reader"}
    readable = world.document(statement("secretsmanager:GetSecretValue", principal=reader))
    world.add(ResourcePolicy, resource_arn=f"{SECRET}/db-AbCdEf", policy_hash=readable)
    hidden = world.secret(SHOP, IRELAND, "shop/hidden")
    world.gap(SHOP, IRELAND, "secretsmanager:GetResourcePolicy", hidden, cause="key_policy")
    world.add(ResourcePolicy, resource_arn=world.secret(SHOP, IRELAND, "shop/plain"), policy_hash=None)


def second_run(world: LedgerBuilder) -> None:
    """The vendor's role trusts a second account, and the secret's policy is deleted."""
    both = [f"arn:aws:iam::{account}:root" for account in (VENDOR, "999900001111")]
    trust = world.document(statement("sts:AssumeRole", principal={"AWS": both}))
    world.change(IamPrincipal, ROLE, policy_hash=trust)
    world.change(ResourcePolicy, f"{SECRET}/db-AbCdEf", policy_hash=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iam")
    world = sample_world(folder / "ledger.db")
    first_run(world)
    world.crawl()
    second_run(world)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "iam.duckdb"})
    build_mart(settings)
    return settings.report.mart


@pytest.fixture
def duck(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(path)
    yield connection
    connection.close()


def rows(duck: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return duck.execute(query).fetchall()


def test_principals_with_everything(duck: duckdb.DuckDBPyConnection) -> None:
    """A role has its boundary, policies, tags and trusted principals; a user has groups and no trust policy."""
    query = (
        "SELECT name, type, account_name, permissions_boundary_arn, attached_policies, inline_policies, groups, tags, "
        f"trusted_principals, trust_policy IS NOT NULL FROM iam_principals WHERE account_id = '{SHOP}' ORDER BY name"
    )
    trusted = [f"arn:aws:iam::{VENDOR}:root", "arn:aws:iam::999900001111:root"]
    assert rows(duck, query) == [
        ("ada", "user", "Shop", None, [], [], ["developers"], {}, None, False),
        ("vendor", "role", "Shop", BOUNDARY, [], ["keys"], [], {"vendor": "one"}, trusted, True),
    ]


def test_policies_that_apply_to_a_principal(duck: duckdb.DuckDBPyConnection) -> None:
    """Inline policies, policies of groups with their group, and a boundary whose document is unknown."""
    query = (
        "SELECT principal_arn, source, group_arn, policy_arn, policy_name, default_version, policy IS NOT NULL, readable "
        "FROM iam_policies ORDER BY principal_arn, source"
    )
    assert rows(duck, query) == [
        (ROLE, "boundary", None, BOUNDARY, "no-keys", None, False, None),
        (ROLE, "inline", None, None, "keys", None, True, True),
        (USER, "attached", GROUP, ADMINISTRATOR, "AdministratorAccess", "v3", True, True),
    ]


def test_completeness_of_iam(duck: duckdb.DuckDBPyConnection) -> None:
    """Freshness is current, partial or none, with the reason; counts that are unknown are NULL."""
    query = "SELECT account_id, freshness, reason, users, roles, groups FROM iam_accounts"
    found = {account: rest for account, *rest in rows(duck, query)}
    assert found[SHOP] == ["current", None, 1, 1, 1]
    assert found[DATA] == ["partial", "the crawler's role lacks the permission", 0, 1, 0]
    assert found[MANAGEMENT] == ["none", "the configuration leaves it out (crawl.iam)", None, None, None]
    assert found[LOCKED][0] == "none"


def test_policies_of_secrets(duck: duckdb.DuckDBPyConnection) -> None:
    """A secret without a policy differs from one whose policy is unknown."""
    query = "SELECT name, freshness, reason, has_policy, principals FROM resource_policies ORDER BY name"
    cause = "the key policy neither delegates the request to IAM nor allows it to the crawler's role"
    assert rows(duck, query) == [
        ("shop/db", "current", None, False, None),
        ("shop/hidden", "none", cause, None, None),
        ("shop/plain", "current", None, False, None),
    ]


def test_principals_in_the_policies_of_secrets(duck: duckdb.DuckDBPyConnection) -> None:
    """Each principal has its party and actions; a deleted policy has no principals."""
    query = "SELECT name, effect, principal, principal_type, party, actions, not_actions FROM resource_principals{}"
    reader = f"arn:aws:iam::{DATA}:role/reader"
    found = ("shop/db", "Allow", reader, "role", "own_organization", ["secretsmanager:GetSecretValue"], False)
    assert rows(duck, query.format("_as_of(1)")) == [found]
    assert rows(duck, query.format("")) == []


def test_as_it_was(duck: duckdb.DuckDBPyConnection, path: Path) -> None:
    """An earlier run's trust and resource policies, by macro and by opening the mart as of that run."""
    principals = "SELECT len(trusted_principals) FROM iam_principals{} WHERE name = 'vendor'"
    assert (rows(duck, principals.format("")), rows(duck, principals.format("_as_of(1)"))) == ([(2,)], [(1,)])
    secret = "SELECT has_policy, principals FROM resource_policies{} WHERE name = 'shop/db'"
    reader = [(True, [f"arn:aws:iam::{DATA}:role/reader"])]
    assert (rows(duck, secret.format("")), rows(duck, secret.format("_as_of(1)"))) == ([(False, None)], reader)
    connection, _ = as_of_connection.connect(path, 1)
    assert rows(connection, secret.format("")) == reader
    connection.close()
    history = "SELECT valid_from, valid_to FROM iam_principals_history WHERE name = 'vendor' ORDER BY valid_from"
    assert rows(duck, history) == [(1, 2), (2, None)]


def test_tags_of_principals_are_nobody_elses(duck: duckdb.DuckDBPyConnection) -> None:
    """They are neither tags of keys nor of resources, and no changes of keys."""
    for view in ("key_tags", "resource_tags"):
        assert rows(duck, f"SELECT count(*) FROM {view} WHERE tag_key = 'vendor'") == [(0,)]
    assert rows(duck, "SELECT count(*) FROM changes WHERE message LIKE '%vendor%'") == [(0,)]
