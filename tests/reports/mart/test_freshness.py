"""What the views say about facts that a run could not read, or not again: freshness belongs to the fact, not to its item."""

from __future__ import annotations

from typing import Any

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

PARIS = "eu-west-3"
RunMart = dict[str, list[tuple[Any, ...]]]
QUERIES = {
    "keys": "SELECT key_id, freshness, grants, last_seen_run FROM keys",
    "key_notes": "SELECT key_id, stale_note FROM internal.customer_keys",
    "policy_notes": "SELECT split_part(key_arn, '/', 2), stale_note FROM internal.key_policy_unknowns",
    "paths": "SELECT split_part(key_arn, '/', 2), freshness FROM internal.key_access WHERE path = 'policy'",
    "resources": "SELECT name, freshness FROM resources",
    "uses": "SELECT resource_name, freshness, key_class, reason FROM resource_keys",
    "denials": "SELECT k.delegates_to_iam, d.cause_text FROM access_denials d JOIN keys k USING (key_arn) "
    "WHERE d.cause = 'key_policy'",
    "encryption": "SELECT name, freshness FROM resource_encryption",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunMart, RunMart]:
    """The rows of each query after a first and a second run."""
    path = tmp_path_factory.mktemp("freshness")
    world = LedgerBuilder(f"sqlite:///{path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND, PARIS)
    key = world.key(SHOP, IRELAND, "read")
    world.gap(SHOP, IRELAND, "kms:DescribeKey", world.key(SHOP, IRELAND, "never-described"))
    partly = world.key(SHOP, IRELAND, "partly-read")
    world.grant(partly, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    again = world.key(SHOP, IRELAND, "not-described-again")
    world.grant(again, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    away = world.key(SHOP, PARIS, "unreachable")
    world.uses(world.database(SHOP, IRELAND, "database"), key)
    policy = world.secret(SHOP, IRELAND, "policy-denied")
    world.uses(policy, key, role="secret")
    world.gap(SHOP, IRELAND, "secretsmanager:GetResourcePolicy", policy)
    world.uses(world.secret(SHOP, PARIS, "unreachable"), away, role="secret")
    for name in ("tags-denied", "never-read"):
        bucket = f"arn:aws:s3:::{name}"
        values = {"account_id": SHOP, "region": IRELAND, "listing_region": "global"}
        world.resource(bucket, "AWS::S3::Bucket", name, **values)
        world.gap(SHOP, "global", "s3:GetBucketTagging", bucket)
        if name == "tags-denied":
            world.uses(bucket, key, role="default-encryption")
        else:
            world.gap(SHOP, "global", "s3:GetEncryptionConfiguration", bucket, cause="role_permission")
    world.outcomes[SHOP, "global"] = ("partial", None)
    settings = settings_of(database=world.url, report={"mart": path / "mart.duckdb"}, rules=only("key-rotation"))

    def crawl() -> RunMart:
        world.crawl()
        refresh(settings)
        with connect(settings.report.mart) as mart:
            return {name: mart.execute(query).fetchall() for name, query in QUERIES.items()}

    first = crawl()
    world.gap(SHOP, IRELAND, "kms:ListGrants", partly, "key_policy")
    world.gap(SHOP, IRELAND, "kms:DescribeKey", again)
    world.gap(SHOP, IRELAND, "rds:DescribeDBInstances")
    world.gap(SHOP, "global", "s3:ListAllMyBuckets", "arn:aws:s3:::tags-denied", "invalid_response")
    world.outcomes[SHOP, PARIS] = ("failed", "the endpoint could not be reached")
    return first, crawl()


def test_what_was_never_read_is_unknown(runs: tuple[RunMart, RunMart]) -> None:
    """In a first run nothing is a last known state, whatever was denied."""
    first, _ = runs
    assert {name: freshness for name, freshness, *_ in first["keys"]} == {
        "read": "current",
        "never-described": "unknown",
        "partly-read": "current",
        "not-described-again": "current",
        "unreachable": "current",
    }
    assert {note for view in ("key_notes", "policy_notes") for _, note in first[view]} == {""}
    for view in ("paths", "resources", "uses", "encryption"):
        assert {row[1] for row in first[view]} == {"current"}, view


def test_a_gap_marks_the_facts_of_its_operation_only(runs: tuple[RunMart, RunMart]) -> None:
    """A key is stale without DescribeKey, not without ListGrants; a failed listing marks its resources, an invalid entry one."""
    _, second = runs
    last_known = " This is the last known state."
    assert {name: freshness for name, freshness, *_ in second["keys"]} == {
        "read": "current",
        "never-described": "unknown",
        "partly-read": "current",
        "not-described-again": "stale",
        "unreachable": "stale",
    }
    notes: dict[str, str] = dict(second["key_notes"])
    assert {name for name, note in notes.items() if note} == {"not-described-again", "unreachable"}
    assert set(notes.values()) == {"", last_known}
    assert {name for name, note in second["policy_notes"] if note} == {"unreachable"}
    assert {name for name, freshness in second["paths"] if freshness == "stale"} == {"unreachable"}
    for view in ("resources", "encryption"):
        assert {row[0] for row in second[view] if row[1] == "stale"} == {"database", "unreachable", "tags-denied"}, view
    assert {row[0] for row in second["uses"] if row[1] == "stale"} == {"database", "tags-denied"}


def test_grants_are_unknown_without_a_complete_listing(runs: tuple[RunMart, RunMart]) -> None:
    """A listing of grants that was cut off counts nothing, also if an earlier one was complete."""
    first, second = runs
    assert {name: grants for name, _, grants, _ in first["keys"]}["partly-read"] == 1
    grants = {name: grants for name, _, grants, _ in second["keys"]}
    assert (grants["partly-read"], grants["not-described-again"]) == (None, 1)


def test_a_reason_names_the_operation_of_the_missing_fact(runs: tuple[RunMart, RunMart]) -> None:
    """The key of a bucket is unknown because of GetBucketEncryption, not because of its tags."""
    uses = {name: (key_class, reason) for name, _, key_class, reason in runs[0]["uses"]}
    assert uses["tags-denied"] == ("customer", None)
    assert uses["never-read"] == (
        "unknown",
        "the crawler's role lacks the permission (s3:GetEncryptionConfiguration)",
    )


def test_a_denial_by_a_policy_that_delegates_is_about_the_request(runs: tuple[RunMart, RunMart]) -> None:
    """A key policy may delegate some requests to IAM and not others: the cause does not deny that it delegates."""
    assert runs[1]["denials"] == [
        (True, "the key policy neither delegates the request to IAM nor allows it to the crawler's role")
    ]
