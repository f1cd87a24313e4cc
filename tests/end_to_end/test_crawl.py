"""A crawl of the demo organization, compared with the resources and the recorded calls of the AWS server."""

from __future__ import annotations

import json
import sqlite3

import pytest

from crawler.iam_policies import member_actions, operations
from demo.organization import count
from tests.end_to_end.conftest import CALLS, Workspace

pytestmark = pytest.mark.deep  # the whole organization of the demo

COUNTED = {
    "keys": "select account_id, count(*) n from keys group by 1",
    "aliases": "select account_id, count(*) n from aliases where not predefined group by 1",
    "predefined_aliases": "select account_id, count(*) n from aliases where predefined group by 1",
    "grants": "select account_id, count(*) n from grants group by 1",
    "key_tags": "select account_id, count(*) n from key_tags group by 1",
    "secrets": "select account_id, count(*) n from resources where resource_type = 'AWS::SecretsManager::Secret' group by 1",
    "db_instances": "select account_id, count(*) n from resources where resource_type in ('AWS::RDS::DBInstance', "
    "'AWS::DocDB::DBInstance', 'AWS::Neptune::DBInstance') group by 1",
    "replication_groups": "select account_id, count(*) n from resources "
    "where resource_type = 'AWS::ElastiCache::ReplicationGroup' group by 1",
    "secret_policies": "select account_id, count(*) n from resource_policies where has_policy group by 1",
    "iam_users": "select account_id, count(*) n from iam_principals where type = 'user' group by 1",
    "iam_roles": "select account_id, count(*) n from iam_principals where type = 'role' group by 1",
    "iam_groups": "select account_id, groups n from iam_accounts where groups > 0",
    "trails": "select account_id, count(*) n from trails group by 1",
    "buckets": "select account_id, count(*) n from resources where resource_type = 'AWS::S3::Bucket' group by 1",
}
FACTS = (
    "key",
    "key_metadata",
    "key_policy",
    "key_grant",
    "alias",
    "tag",
    "key_rotation",
    "resource",
    "key_reference",
    "resource_key",
)


def test_every_count_equals_what_boto3_counts_account_by_account(crawled: Workspace) -> None:
    """The mart contains as many keys, aliases, grants, tags and resources as boto3 lists."""
    expected = count(crawled.aws, crawled.world)
    for kind, query in COUNTED.items():
        actual = {row["account_id"]: row["n"] for row in crawled.sql(query)}
        expected_counts = {account: n for (account, counted), n in expected.items() if counted == kind and n}
        assert actual == expected_counts, kind


def test_only_declared_operations_reach_aws(crawled: Workspace) -> None:
    """The crawler calls only declared operations, and the printed policy allows exactly the calls in member accounts."""
    declared = {(operation.service, operation.name): operation for operation in operations()}
    seen = {tuple(call) for call in json.loads((crawled.directory / CALLS).read_text(encoding="utf-8"))}
    assert seen - declared.keys() == set()
    called_actions = {declared[call].iam_action for call in seen if declared[call].caller == "member"}
    done = crawled.run("permissions", "--role", "member")
    printed = json.loads(done.stdout)["Statement"][0]["Action"]
    assert printed == sorted(called_actions) == member_actions()


def test_no_secret_is_written_anywhere(crawled: Workspace) -> None:
    """The external id appears only in the settings, not in the ledger, the mart or a report."""
    secrets = [crawled.world.external_id.encode()]
    for path in crawled.directory.rglob("*"):
        if path.is_file() and path != crawled.settings:
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path


def test_an_unsupported_operation_is_a_gap(crawled: Workspace) -> None:
    """An operation that the endpoint lacks is recorded as a gap, not as an empty listing."""
    rows = crawled.sql("select account_id, operation from coverage where outcome = 'gap' and cause = 'unsupported'")
    assert rows == [{"account_id": crawled.world.accounts["lab"], "operation": "DescribeServerlessCaches"}]


def test_an_account_without_the_role_is_a_gap_with_its_cause(crawled: Workspace) -> None:
    """An account whose role cannot be assumed has failed coverage, with the action and the cause."""
    legacy = crawled.world.accounts["legacy"]
    rows = crawled.sql(f"select * from coverage where account_id = '{legacy}' and outcome = 'gap'")
    assert [(row["action"], row["cause"]) for row in rows] == [("sts:AssumeRole", "role_missing_or_untrusted")]
    assert crawled.sql(f"select coverage from accounts where account_id = '{legacy}'") == [{"coverage": "failed"}]


def facts(workspace: Workspace) -> dict[str, set[tuple[object, ...]]]:
    """The current facts by table, without bookkeeping columns."""
    with sqlite3.connect(workspace.directory / "ledger.db") as connection:
        actual = {}
        for table in FACTS:
            names = [row[1] for row in connection.execute(f"pragma table_info({table})")]
            values = ", ".join(name for name in names if name not in {"version_id", "valid_from", "valid_to"})
            actual[table] = set(connection.execute(f"select {values} from {table} where valid_to is null"))
    return actual


def test_a_denied_call_for_one_key_keeps_every_fact(account_workspace: Workspace) -> None:
    """A denial for one key closes no fact; the coverage view has it with account, region, key, action and cause."""
    before = facts(account_workspace)
    key = account_workspace.world.granted_key_of_platform
    denied = {"kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants"}
    for action in denied:
        message = f"User: r is not authorized to perform: {action} because no resource-based policy allows the {action} action"
        account_workspace.aws.fault(
            *action.split(":"), match=key.rpartition("/")[2], code="AccessDeniedException", message=message
        )
    assert account_workspace.run("crawl").returncode == 3
    assert facts(account_workspace) == before
    rows = account_workspace.sql(f"select * from coverage where key_arn = '{key}' and outcome = 'gap'")
    account, region = key.split(":")[4], key.split(":")[3]
    gaps = {(row["account_id"], row["region"], row["action"], row["cause"]) for row in rows}
    assert gaps == {(account, region, action, "key_policy") for action in denied}


def test_a_region_whose_keys_cannot_be_listed_keeps_its_keys(account_workspace: Workspace) -> None:
    """If ListKeys is denied in a region, no key is closed, and its keys are marked as stale."""
    before = facts(account_workspace)
    account = account_workspace.world.accounts["platform"]
    account_workspace.aws.fault(
        "kms", "ListKeys", account=account, region="us-east-1", code="AccessDeniedException", message="no"
    )
    assert account_workspace.run("crawl").returncode == 3
    assert facts(account_workspace) == before
    rows = account_workspace.sql(
        f"select region, action, cause from coverage where account_id = '{account}' and operation = 'ListKeys'"
    )
    assert rows == [{"region": "us-east-1", "action": "kms:ListKeys", "cause": "denied"}]
    freshness = account_workspace.sql(
        f"select distinct freshness from keys where account_id = '{account}' and region = 'us-east-1'"
    )
    assert freshness == [{"freshness": "stale"}]


def test_a_second_crawl_of_an_unchanged_organization_writes_no_fact(workspace: Workspace) -> None:
    """A run without changes opens and closes no version."""
    workspace.run("crawl")
    with sqlite3.connect(workspace.directory / "ledger.db") as connection:
        for table in (*FACTS, "account", "account_region", "gap"):
            changed = connection.execute(f"select * from {table} where valid_from = 2 or valid_to = 2").fetchall()
            assert changed == [], table
