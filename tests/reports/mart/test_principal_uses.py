"""The view principal_uses, and the principals of the overview that are counted with it."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import duckdb
import pytest

from models.settings import Settings
from reports.html.query_runner import Source
from reports.mart.connection import connect
from reports.mart.rows import rows
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of
from tests.reports.principal_counts import different_counts

SHOP = "111122223333"
IRELAND = "eu-west-1"
OTHER = "arn:aws:iam::999999999999:role/other"
ROLE = f"arn:aws:iam::{SHOP}:role/app"


@pytest.mark.parametrize("name", ["situation_mart", pytest.param("sample_mart", marks=pytest.mark.deep)])
def test_the_number_of_keys_of_each_principal(name: str, request: pytest.FixtureRequest) -> None:
    """As of every run, the counts by policy equal those of the rows by key."""
    path: Path = request.getfixturevalue(name)
    with connect(path) as mart:
        assert different_counts(mart) == []


OUTSIDE = """
    SELECT party, count(DISTINCT principal) AS principals, count(DISTINCT key_arn) AS keys FROM key_principals
    WHERE party NOT IN ('own_account', 'own_organization', 'aws_service') AND effect <> 'Deny' GROUP BY party
"""


@pytest.mark.parametrize("name", ["situation_mart", pytest.param("sample_mart", marks=pytest.mark.deep)])
def test_parties_outside_the_organization_are_counted(name: str, request: pytest.FixtureRequest) -> None:
    """The overview's counts by policy of principals and keys equal those of the rows by key."""
    path: Path = request.getfixturevalue(name)
    with connect(path) as mart:
        expected = rows(mart, OUTSIDE)
        counted = list(Source(mart).rows("external_party_counts"))
    assert len(expected) > 1
    assert sorted(counted, key=itemgetter("party")) == sorted(expected, key=itemgetter("party"))


def test_a_grant_without_a_known_grantee_is_counted(world: LedgerBuilder, tmp_path: Path) -> None:
    """A grant to a service is not outside; one whose grantee is missing is an unknown party, of which the keys are counted."""
    world.account(SHOP, "Shop", IRELAND)
    keys = [world.key(SHOP, IRELAND, name) for name in ("service", "nobody", "other")]
    for key, grantee in zip(
        keys, ({"grantee_service_principal": "s3.amazonaws.com"}, {}, {"grantee_principal": OTHER}), strict=True
    ):
        world.grant(key, "grant", **{"grantee_principal": None, **grantee}, operations=["Decrypt"])
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    build_mart(settings)
    with connect(settings.report.mart) as mart:
        counted = list(Source(mart).rows("external_party_counts"))
        assert sorted(rows(mart, OUTSIDE), key=itemgetter("party")) == sorted(counted, key=itemgetter("party"))
    assert {row["party"]: (row["principals"], row["keys"]) for row in counted} == {
        "external_account": (1, 1),
        "unknown": (0, 1),
    }


@pytest.fixture
def shared_policies(world: LedgerBuilder, tmp_path: Path) -> Settings:
    """Keys that share policies, and grants to a principal that some of the policies name."""
    world.account(SHOP, "Shop", IRELAND)
    named = [
        root_statement(SHOP),
        {"Sid": "use", "Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Encrypt", "Resource": "*"},
        {
            "Effect": "Allow",
            "Principal": {"AWS": ROLE},
            "Action": ["kms:Decrypt"],
            "Resource": "*",
            "Condition": {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}},
        },
    ]
    policies = [named, named, "default", "default", None]
    keys = [world.key(SHOP, IRELAND, f"key-{number}", policy=policy) for number, policy in enumerate(policies)]
    world.gap(SHOP, IRELAND, "kms:GetKeyPolicy", keys[4])
    for number, arn in enumerate([keys[0], keys[0], keys[2], keys[2], keys[4]]):
        operations = ["Decrypt"] if number % 2 else ["Encrypt", "Decrypt"]
        world.grant(arn, f"grant-{number}", grantee_principal=ROLE, operations=operations)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    build_mart(settings)
    return settings


def test_a_key_counts_once_for_a_principal(shared_policies: Settings) -> None:
    """Two statements, two grants, or both on the same key are one key; actions and conditions are those of all of them."""
    with connect(shared_policies.report.mart) as mart:
        assert different_counts(mart) == []
        rows = list(Source(mart).rows("principals", limit=10, nested=10))
    [role] = [row for row in rows if row["principal"] == ROLE]
    assert (role["key_count"], len(role["key_list"]), role["keys_more"]) == (4, 4, None)
    assert role["actions"] == "kms:Decrypt, kms:Encrypt"
    assert (role["condition_keys"], role["unconditional"]) == ("kms:ViaService", "none in some statements")
    assert role["named"] == "role, named in grant and policy"


def test_the_listed_keys_are_the_first(shared_policies: Settings) -> None:
    """A principal of more keys than are listed names the first of them, and the number of the others."""
    with connect(shared_policies.report.mart) as mart:
        expected = first_keys(mart, ROLE)
        [role] = [row for row in Source(mart).rows("principals", limit=10, nested=2) if row["principal"] == ROLE]
    assert [key[1] for key in role["key_list"]] == expected[:2]
    assert role["keys_more"] == 2


def first_keys(mart: duckdb.DuckDBPyConnection, principal: str) -> list[str]:
    """The keys that name a principal, in order."""
    query = "SELECT DISTINCT key_arn FROM key_principals WHERE principal = ? ORDER BY key_arn"
    return [arn for (arn,) in mart.execute(query, [principal]).fetchall()]
