"""Access queries on the demo organization; the expected results were worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from demo import policies
from reports.access.engine.evaluator import allowed
from reports.access.engine.model import Effect, KeyFacts, Organization
from reports.access.engine.policy_parser import parse
from tests.end_to_end.conftest import Workspace
from tests.reports.mart_schema import offer_schema

pytestmark = pytest.mark.deep  # the whole organization of the demo

ROOT = "Enable IAM User Permissions"
EVERYTHING = "policy AdministratorAccess (#0)"


@pytest.fixture(scope="module")
def no_iam(crawled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The account with the secret, crawled without IAM into a separate ledger."""
    workspace = crawled.copy(tmp_path_factory.mktemp("no-iam") / "workspace")
    workspace.change(
        organization={"include": {"accounts": [workspace.world.accounts["lab"]]}},
        crawl={"iam": False},
        database="sqlite:///no-iam.db",
        report={"mart": "no-iam.duckdb"},
        vendors={"profiles": {}},
    )
    offer_schema(workspace.directory / "no-iam.duckdb")
    assert workspace.run("crawl").returncode == 0
    return workspace


def json_result(workspace: Workspace, *arguments: str, code: int = 0) -> Any:
    """The JSON output of a command."""
    done = workspace.run(*arguments, "--format", "json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def access_paths(response: Any) -> dict[tuple[str, str], set[tuple[str, str | None, tuple[str, ...]]]]:
    """Access paths to the single key, by answer and principal; each principal occurs once."""
    (key,) = response["keys"]
    paths = {
        (principal_access["answer"], principal_access["principal"]): {
            (path["path"], path["source_id"], tuple(path["identity_policies"]))
            for path in principal_access["access_paths"]
        }
        for principal_access in key["principals"]
    }
    assert len(paths) == len(key["principals"])
    return paths


def grant_of(workspace: Workspace, key_arn: str) -> str:
    """The id of the only grant on a key."""
    (row,) = workspace.sql(f"SELECT grant_id FROM grants WHERE key_arn = '{key_arn}'")
    return str(row["grant_id"])


def test_who_can_read_a_secret(crawled: Workspace) -> None:
    """Admin may call everything, and decrypts through the key policy and a grant; only the root user has access besides."""
    world = crawled.world
    lab = world.accounts["lab"]
    response = json_result(crawled, "who-can", "decrypt", world.hostile_secret)
    grant = grant_of(crawled, world.hostile_key)
    assert access_paths(response) == {
        ("yes", world.administrator_role): {("policy", ROOT, (EVERYTHING,)), ("grant", grant, ())},
        ("yes", policies.root(lab)): {("policy", ROOT, ())},
    }
    (admin,) = [entry for entry in response["keys"][0]["principals"] if entry["principal"] == world.administrator_role]
    assert [(path["path"], path["identity_policies"]) for path in admin["resource_access_paths"]] == [
        ("iam", [EVERYTHING])
    ]


def test_who_can_read_a_secret_when_iam_was_not_collected(no_iam: Workspace) -> None:
    """No access is certain: access of Admin (by its grant) and of the whole account depends on IAM, with the reason."""
    world = no_iam.world
    response = json_result(no_iam, "who-can", "decrypt", world.hostile_secret, code=3)
    lab = policies.root(world.accounts["lab"])
    grant = grant_of(no_iam, world.hostile_key)
    assert access_paths(response) == {
        ("conditional", world.administrator_role): {("policy", ROOT, ()), ("grant", grant, ())},
        ("conditional", lab): {("policy", ROOT, ())},
    }
    assert all(
        "IAM was not collected" in principal_access["reason"] for principal_access in response["keys"][0]["principals"]
    )


def test_a_secret_that_is_shared_by_its_own_policy_only(crawled: Workspace) -> None:
    """The secret's policy allows account platform, its key does not: only the root user of its own account can read it."""
    world = crawled.world
    response = json_result(crawled, "who-can", "decrypt", world.key_arn_secret)
    assert access_paths(response) == {("yes", policies.root(world.accounts["data"])): {("policy", ROOT, ())}}


def test_secrets_whose_key_is_gone_or_hidden(crawled: Workspace) -> None:
    """Nobody can use a key that no longer exists; access to a key in an account that was not crawled is unknown."""
    deleted_key = json_result(crawled, "who-can", "decrypt", crawled.world.dangling_key_secret)
    assert deleted_key["keys"][0]["principals"] == []
    assert any("The secret's key does not exist" in note for note in deleted_key["notes"])
    hidden = json_result(crawled, "who-can", "decrypt", crawled.world.hidden_key_secret, code=3)
    assert "was not crawled" in hidden["keys"][0]["unknown"][0]
    assert {principal_access["answer"] for principal_access in hidden["keys"][0]["principals"]} == {"unknown"}


def test_who_can_use_a_key_because_of_a_group_and_not_because_of_a_boundary(crawled: Workspace) -> None:
    """Maria uses the tier's key through her group; Deployment has every permission, but its boundary excludes KMS."""
    paths = access_paths(json_result(crawled, "who-can", "decrypt", crawled.world.tier_key))
    assert paths["yes", crawled.world.developer] == {
        ("policy", ROOT, ("policy use-the-tier-key of group developers (UseTheTier)",))
    }
    assert not any(principal == crawled.world.bounded_role for _, principal in paths)


def test_hostile_text_is_printed_as_text(crawled: Workspace) -> None:
    """Names from AWS reach a terminal without control characters."""
    done = crawled.run("who-can", "use", crawled.world.hostile_secret)
    assert done.returncode == 0, done.stderr
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "lab/=HYPERLINK" in done.stdout


def test_errors_are_one_sentence(crawled: Workspace) -> None:
    """Unknown and ambiguous names are errors with exit code 2 that list the candidates."""
    unknown = crawled.run("who-can", "decrypt", "alias/payments-databas")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
    assert "did you mean" in unknown.stderr
    several = crawled.run("who-can", "decrypt", "alias/payments-database")
    assert several.returncode == 2
    assert several.stderr.count("arn:aws:kms:") == 2


def test_denials_with_statements_that_fix_them(crawled: Workspace) -> None:
    """Each denied call has a statement; with it in the key policy, the engine allows the call to the crawler's role."""
    world = crawled.world
    response = json_result(crawled, "denials", code=3)
    assert response["other_gaps"] > 0
    keys = {
        subject: entry
        for entry in response["denials"]
        if entry["fix_in"] == "key_policy"
        for subject in entry["subjects"]
    }
    assert set(keys) == {world.locked_key, world.appliance_key}
    role = world.role_arn(world.accounts["data"])
    crawled.aws.clear_faults()  # an administrator can read what the crawler's role may not
    client = crawled.aws.session(world.accounts["data"], "us-east-1").client("kms")
    for key_arn, entry in keys.items():
        assert entry["role"] == role
        text = json.loads(client.get_key_policy(KeyId=key_arn, PolicyName="default")["Policy"])
        facts, organization = KeyFacts(key_arn, world.accounts["data"], tags={}), Organization(world.organization)
        fixed = parse(orjson.dumps(text | {"Statement": [*text["Statement"], entry["fix"]["statement"]]}).decode())
        for action in entry["actions"]:
            assert allowed(fixed, facts, organization, role, action, {}).effect is Effect.ALLOW
            if key_arn == world.locked_key:
                before = parse(orjson.dumps(text).decode())
                assert allowed(before, facts, organization, role, action, {}).effect is Effect.DENY
    (trust,) = [entry for entry in response["denials"] if entry["fix_in"] == "trust_policy"]
    assert [account["account_id"] for account in trust["accounts"]] == [world.accounts["legacy"]]


def test_what_an_account_and_a_person_can_use(crawled: Workspace) -> None:
    """The vendor's account can use its keys; Maria can use one, listed with its dependents."""
    world = crawled.world
    vendor = json_result(crawled, "what-can", policies.CHECKMARX_ACCOUNT)
    assert {entry["key_arn"] for entry in vendor["keys"]} >= {world.vendor_key, world.granted_key_of_platform}
    maria = json_result(crawled, "what-can", "maria")
    (key,) = maria["keys"]
    assert (key["key_arn"], key["dependent_count"] > 0) == (world.tier_key, True)


def test_vendors(crawled: Workspace) -> None:
    """Each external party with its keys, and the access that remains without each access path."""
    rows = json_result(crawled, "vendors")["vendors"]
    world = crawled.world
    paths = {(row["party"], row["key_arn"]): row for row in rows}
    assert ("Checkmarx", world.vendor_key) in paths
    stranger = paths[policies.STRANGER_ACCOUNT, world.stranger_key]
    assert (stranger["access"], stranger["paths"]) == ("external", ["Vendor"])
    done = crawled.run("vendors")
    assert done.returncode == 0
    assert "without it, access ends" in done.stdout
