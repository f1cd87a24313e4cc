"""IAM of accounts and resource policies of secrets: calls, facts, and the handling of failed calls."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any
from urllib.parse import quote

import pytest

from crawler.aws.credentials import SESSION_POLICY_LIMIT, session_policy
from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import configured_types, member_actions
from crawler.services.iam import REDACTED_EXTERNAL_ID, decode_policy, redact_external_ids
from crawler.services.resource_types import SECRET
from crawler.spec import GLOBAL, Scope
from models.settings.crawl import CrawlSettings
from models.store.scd2_merge import Batch, merge
from models.tables.iam import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    ResourcePolicy,
)
from models.tables.keys import Tag
from models.tables.runs import Cause, Gap, Outcome
from models.versioned import VersionedTable
from tests.crawler.empty_ledger import Ledger
from tests.crawler.sample_resources import arn_of, sample_aws
from tests.crawler.scripted_aws import ACCOUNT, REGION, Answer, Caller, ScriptedAws, client_for, denied, paged

DETAILS = "iam:GetAccountAuthorizationDetails"
IAM_TABLES: tuple[type[VersionedTable], ...] = (
    IamPrincipal,
    IamGroup,
    IamMembership,
    IamAttachment,
    IamInlinePolicy,
    IamManagedPolicy,
    IamScan,
)
LONG_AGO = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
EVERYWHERE = {(ACCOUNT, REGION): Outcome.COMPLETE, (ACCOUNT, GLOBAL): Outcome.COMPLETE}


def arn(kind: str, name: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:iam::{account}:{kind}/{name}"


def document(action: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})


def encoded(action: str) -> str:
    return quote(document(action), safe="")


def user(name: str, *groups: str) -> dict[str, Any]:
    return {"Arn": arn("user", name), "UserName": name, "UserId": f"AIDA{name}", "GroupList": list(groups)}


def role(name: str, **more: Any) -> dict[str, Any]:
    defaults = {"Path": "/", "CreateDate": LONG_AGO, "AssumeRolePolicyDocument": encoded("sts:AssumeRole")}
    return defaults | {"Arn": arn("role", name), "RoleName": name, "RoleId": f"AROA{name}"} | more


def managed(policy: str, action: str, **more: Any) -> dict[str, Any]:
    versions = [
        {"VersionId": "v1", "Document": encoded("iam:Get*")},
        {"VersionId": "v2", "Document": encoded(action)},
    ]
    defaults = {"PolicyName": policy.rpartition("/")[2], "DefaultVersionId": "v2", "PolicyVersionList": versions}
    return defaults | {"Arn": policy, "AttachmentCount": 1, "PermissionsBoundaryUsageCount": 0} | more


def page(**lists: Any) -> dict[str, Any]:
    return {name: [] for name in LISTS} | {"IsTruncated": False} | lists


APPLICATION = role(
    "application",
    RolePolicyList=[{"PolicyName": "keys", "PolicyDocument": encoded("kms:Decrypt")}],
    AttachedManagedPolicies=[{"PolicyName": "AdministratorAccess", "PolicyArn": ADMINISTRATOR}],
    PermissionsBoundary={"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": BOUNDARY},
    Tags=[{"Key": "team", "Value": "shop"}],
    RoleLastUsed={"LastUsedDate": LONG_AGO},
)
DEVELOPERS = {
    "Arn": arn("group", "people/developers"),
    "GroupName": "developers",
    "GroupPolicyList": [{"PolicyName": "read", "PolicyDocument": encoded("kms:DescribeKey")}],
}
COMPLETE_PAGE = page(
    UserDetailList=[user("ada", "developers")],
    GroupDetailList=[DEVELOPERS],
    RoleDetailList=[APPLICATION],
    Policies=[
        managed(ADMINISTRATOR, "*"),
        managed(BOUNDARY, "s3:*"),
        managed(f"{ADMINISTRATOR}2", "*", AttachmentCount=0),
    ],
)


def account(answer: Answer, region: str = GLOBAL, **options: Any) -> tuple[Collected, ScriptedAws]:
    """Collect the global scope of the account, with IAM enabled."""
    aws = sample_aws({DETAILS: answer})

    async def run() -> Collected:
        settings = CollectOptions(**{"iam": True} | options)
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, region), settings)

    return asyncio.run(run()), aws


def rows(found: Collected, model: type[VersionedTable]) -> list[Any]:
    return [dict(row) for row in found.batch.rows.get(model, ())]


def texts(found: Collected, model: type[VersionedTable], name: str) -> dict[str, str]:
    """Return the policy texts of a table by a column."""
    return {row[name]: found.batch.documents[row["policy_hash"]].received for row in rows(found, model)}


def test_everything_of_an_account_is_recorded() -> None:
    """Users, roles, groups, memberships, attachments, inline policies, boundaries, tags and policy texts are recorded."""
    found, aws = account(COMPLETE_PAGE)
    (call,) = aws.of(DETAILS)
    assert call["MaxItems"] == 1000
    assert call["Filter"] == ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]
    assert found.gaps == 0
    principals = {row["arn"]: row for row in rows(found, IamPrincipal)}
    assert principals.keys() == {arn("user", "ada"), arn("role", "application")}
    ada, application = principals[arn("user", "ada")], principals[arn("role", "application")]
    assert (ada["type"], ada["policy_hash"], ada["unique_id"]) == ("user", None, "AIDAada")
    assert (application["type"], application["permissions_boundary_arn"]) == ("role", BOUNDARY)
    assert found.batch.documents[application["policy_hash"]].received == document("sts:AssumeRole")
    assert [(row["user_arn"], row["group_name"]) for row in rows(found, IamMembership)] == [(ada["arn"], "developers")]
    assert [row["name"] for row in rows(found, IamGroup)] == ["developers"]
    assert [(row["owner_arn"], row["policy_arn"]) for row in rows(found, IamAttachment)] == [
        (application["arn"], ADMINISTRATOR)
    ]
    assert texts(found, IamInlinePolicy, "owner_arn") == {
        application["arn"]: document("kms:Decrypt"),
        DEVELOPERS["Arn"]: document("kms:DescribeKey"),
    }
    tags = [(row["resource_arn"], row["tag_key"], row["tag_value"]) for row in rows(found, Tag)]
    assert (application["arn"], "team", "shop") in tags


def test_only_default_versions_and_used_aws_policies_are_recorded() -> None:
    """Only the default version is recorded; an AWS managed policy belongs to no account, and an unused one is skipped."""
    found, _ = account(COMPLETE_PAGE)
    policies = {row["policy_arn"]: (row["account_id"], row["default_version"]) for row in rows(found, IamManagedPolicy)}
    assert policies == {ADMINISTRATOR: ("aws", "v2"), BOUNDARY: (ACCOUNT, "v2")}
    assert texts(found, IamManagedPolicy, "policy_arn") == {ADMINISTRATOR: document("*"), BOUNDARY: document("s3:*")}


@pytest.mark.parametrize("text", [document("kms:*"), '{"Statement": "a+b % c é"}', " {}"])
def test_documents_are_decoded_once(text: str) -> None:
    """Percent-encoded policies are decoded; plain JSON, even with a percent sign, is unchanged."""
    assert decode_policy(quote(text, safe="")) == decode_policy(text) == text


@pytest.mark.parametrize("external_id", ["hunter2", ["hunter2", "hunter3"]])
def test_external_ids_are_redacted(external_id: Any) -> None:
    """A recorded trust policy keeps the condition on an external id, but not the id."""
    condition = {"StringEquals": {"STS:ExternalID": external_id, "aws:PrincipalOrgID": "o-1"}}
    statement = {"Effect": "Allow", "Principal": {"AWS": "444455556666"}, "Action": "sts:AssumeRole"}
    for statements in (statement | {"Condition": condition}, [statement, statement | {"Condition": condition}]):
        trust = quote(json.dumps({"Version": "2012-10-17", "Statement": statements}), safe="")
        found, _ = account(page(RoleDetailList=[role("vendor", AssumeRolePolicyDocument=trust)]))
        (recorded,) = found.batch.documents.values()
        assert found.gaps == 0
        for text in (recorded.received, recorded.canonical):
            assert "hunter" not in text
            assert REDACTED_EXTERNAL_ID in text
            assert "o-1" in text


def test_a_wildcard_external_id_is_kept() -> None:
    """A trust policy that accepts every external id contains no secret."""
    for any_id in ("*", ["*"]):
        condition = {"StringLike": {"sts:ExternalId": any_id}}
        text = json.dumps({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Condition": condition}]})
        assert REDACTED_EXTERNAL_ID not in redact_external_ids(text)
        assert '"*"' in redact_external_ids(text)


def two_pages(second: Any) -> Answer:
    """Return a listing with the role on the first page and the given second page."""
    first = page(RoleDetailList=[APPLICATION]) | {"IsTruncated": True, "Marker": "page-1"}
    return lambda call: second if call.params.get("Marker") == "page-1" else first


def test_all_pages_are_read() -> None:
    """All pages form one listing."""
    found, aws = account(two_pages(page(UserDetailList=[user("ada")])))
    assert [call.params.get("Marker") for call in aws.of(DETAILS)] == [None, "page-1"]
    assert {row["name"] for row in rows(found, IamPrincipal)} == {"application", "ada"}
    assert rows(found, IamScan) == [{"account_id": ACCOUNT}]


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        (denied(DETAILS), Cause.KEY_POLICY),
        ({"IsTruncated": False}, Cause.INVALID_RESPONSE),
        (page(UserDetailList=[{"UserName": "without ARN"}, user("ada")]), Cause.INVALID_RESPONSE),
        (
            page(RoleDetailList=[role("bad", AssumeRolePolicyDocument="%ff%fe")], UserDetailList=[user("ada")]),
            Cause.INVALID_RESPONSE,
        ),
    ],
)
def test_a_partial_listing_closes_nothing(second: Any, cause: Cause) -> None:
    """A failed, empty or partly malformed page is a gap; the rest is recorded, and no listing is complete."""
    found, _ = account(two_pages(second))
    gaps = [(row["operation"], row["subject"], row["cause"]) for row in rows(found, Gap)]
    assert gaps == [("GetAccountAuthorizationDetails", "", cause)]
    assert not any(model in found.batch.complete_listings for model in IAM_TABLES)
    names = {row["name"] for row in rows(found, IamPrincipal)}
    assert names == {"application"} | ({"ada"} if isinstance(second, dict) and "Policies" in second else set())


def versions(ledger: Ledger) -> int:
    tables: list[type[VersionedTable]] = [*IAM_TABLES, Tag]
    return sum(len(ledger.rows(model)) for model in tables)


def record_runs(ledger: Ledger, *answers: Answer) -> list[int]:
    """Record one run per response and return the number of versions that each wrote."""
    written = []
    for answer in answers:
        before = versions(ledger)
        ledger.record_run(account(answer)[0].batch, EVERYWHERE)
        written.append(versions(ledger) - before)
    return written


def test_a_run_without_changes_writes_nothing(ledger: Ledger) -> None:
    """A newer last use and a reformatted policy add no version."""
    spaced = quote(json.dumps(json.loads(document("kms:Decrypt")), indent=4), safe="")
    inline = [{"PolicyName": "keys", "PolicyDocument": spaced}]
    again = APPLICATION | {"RoleLastUsed": {"LastUsedDate": LONG_AGO + dt.timedelta(days=9)}, "RolePolicyList": inline}
    first, second = record_runs(ledger, COMPLETE_PAGE, COMPLETE_PAGE | {"RoleDetailList": [again]})
    assert (first > 8, second) == (True, 0)


def test_a_deleted_principal_is_closed_with_its_details(ledger: Ledger) -> None:
    """A deleted role closes with its policies, attachments and tags; AWS managed policies stay open for other accounts."""
    record_runs(ledger, COMPLETE_PAGE, page(UserDetailList=[user("ada")]))
    assert [row["name"] for row in ledger.current(IamPrincipal)] == ["ada"]
    for model in (IamGroup, IamMembership, IamAttachment, IamInlinePolicy):
        assert ledger.rows(model)
        assert ledger.current(model) == []
    assert [row["policy_arn"] for row in ledger.current(IamManagedPolicy)] == [ADMINISTRATOR]
    assert ledger.current(Tag, resource_arn=arn("role", "application")) == []


def test_a_denied_run_closes_nothing(ledger: Ledger) -> None:
    """The facts stay open with a gap, which closes in the next complete run."""
    record_runs(ledger, COMPLETE_PAGE, denied(DETAILS))
    assert {row["name"] for row in ledger.current(IamPrincipal)} == {"ada", "application"}
    assert [row["valid_to"] for model in IAM_TABLES for row in ledger.rows(model)] == [None] * 10
    assert [row["action"] for row in ledger.current(Gap)] == [DETAILS]
    record_runs(ledger, COMPLETE_PAGE)
    assert ledger.current(Gap) == []


def test_iam_is_not_called_by_default(ledger: Ledger) -> None:
    """No call is made; earlier facts stay open, and the scan closes."""
    record_runs(ledger, COMPLETE_PAGE)
    found, aws = account(COMPLETE_PAGE, iam=False)
    assert aws.of(DETAILS) == []
    ledger.record_run(found.batch, EVERYWHERE)
    assert len(ledger.current(IamPrincipal)) == 2
    assert ledger.current(IamScan) == []
    assert DETAILS not in member_actions(crawl=CrawlSettings())
    assert DETAILS in member_actions(crawl=CrawlSettings(iam=True))


def test_accounts_share_aws_managed_policies(ledger: Ledger) -> None:
    """An AWS managed policy is one fact: another account neither closes it nor adds a version."""
    record_runs(ledger, COMPLETE_PAGE)
    batch = Batch()
    other = account(page(Policies=[managed(ADMINISTRATOR, "*")]))[0].batch
    batch.rows[IamManagedPolicy] = other.rows[IamManagedPolicy]
    batch.documents = other.documents
    batch.mark_complete(IamManagedPolicy, "444455556666")
    with ledger.engine.begin() as connection:
        assert merge(connection, 2, batch).opened == 0
    assert len(ledger.rows(IamManagedPolicy, policy_arn=ADMINISTRATOR)) == 1


# --- the policies of secrets -----------------------------------------------------------------------------------------


def test_the_policy_of_each_secret_is_read(ledger: Ledger) -> None:
    """A policy is recorded as text, its absence as NULL; a second run writes nothing."""
    for _ in range(2):
        found, aws = account(COMPLETE_PAGE, REGION)
        ledger.record_run(found.batch, EVERYWHERE)
    secrets = {arn_of("secretsmanager", f"secret:{name}") for name in ("orders", "default", "alias")}
    assert {call["SecretId"] for call in aws.of("secretsmanager:GetResourcePolicy")} == secrets
    has_policy = {row["resource_arn"]: row["policy_hash"] is not None for row in ledger.rows(ResourcePolicy)}
    assert has_policy == {secret: secret.endswith("orders") for secret in secrets}


def test_a_denied_policy_is_a_gap_and_keeps_the_last_known_policy(ledger: Ledger) -> None:
    """A denied call does not count as a missing policy."""
    ledger.record_run(account(COMPLETE_PAGE, REGION)[0].batch, EVERYWHERE)
    before = ledger.current(ResourcePolicy)

    async def run() -> Collected:
        aws = sample_aws({"secretsmanager:GetResourcePolicy": denied("secretsmanager:GetResourcePolicy")})
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, REGION), CollectOptions())

    found = asyncio.run(run())
    ledger.record_run(found.batch, EVERYWHERE)
    assert found.gaps == len(before) == 3
    assert ledger.current(ResourcePolicy) == before
    assert {row["operation"] for row in ledger.current(Gap)} == {"GetResourcePolicy"}


def test_the_policy_of_a_secret_pending_deletion_is_not_read() -> None:
    """Secrets Manager rejects the call until the secret is restored, so that it is skipped without a gap."""
    pending = {"ARN": arn_of("secretsmanager", "secret:gone"), "Name": "gone", "DeletedDate": LONG_AGO}
    aws = sample_aws(
        {"secretsmanager:ListSecrets": paged("SecretList", [[pending]], send="NextToken", receive="NextToken")}
    )

    async def run() -> Collected:
        return await collect(client_for(aws), Caller(), Scope(ACCOUNT, REGION), CollectOptions())

    found = asyncio.run(run())
    assert aws.of("secretsmanager:GetResourcePolicy") == []
    assert (rows(found, Gap), rows(found, ResourcePolicy)) == ([], [])


def test_policies_of_secrets_can_be_left_out() -> None:
    """With crawl.secret_policies off nothing is asked or asked for, and each secret says why its policy is not known."""
    found, aws = account(COMPLETE_PAGE, REGION, resource_policies=False)
    assert aws.of("secretsmanager:GetResourcePolicy") == []
    assert {row["cause"] for row in rows(found, Gap)} == {Cause.DISABLED_BY_CONFIG}
    assert (len(rows(found, Gap)), found.gaps) == (3, 0)
    without = member_actions(crawl=CrawlSettings(secret_policies=False))
    assert "secretsmanager:GetResourcePolicy" not in without
    assert "secretsmanager:GetResourcePolicy" in member_actions(configured_types([SECRET.name]))


def test_all_actions_fit_into_a_session_policy() -> None:
    """With all settings enabled, the session policy is within the limit of sts:AssumeRole and allows no secret to be read."""
    actions = member_actions()
    assert {DETAILS, "secretsmanager:GetResourcePolicy"} <= set(actions)
    assert "secretsmanager:GetSecretValue" not in actions
    assert len(session_policy(actions)) < SESSION_POLICY_LIMIT
