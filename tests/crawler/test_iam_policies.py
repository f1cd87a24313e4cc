"""The printed IAM policies allow every call of the identity to which they are attached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crawler.cli import permissions
from crawler.iam_policies import member_actions, operations

MANAGED_POLICY_LIMIT = 6144
"""The maximum size of a managed policy in characters, without white space (IAM quotas)."""


@pytest.fixture(autouse=True)
def _without_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands where no settings file is, unless a test names one."""
    monkeypatch.chdir(tmp_path)


def printed(*arguments: str) -> dict[str, Any]:
    """Return the policy that the command prints."""
    result = CliRunner().invoke(permissions, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def allowed(document: dict[str, Any]) -> set[str]:
    """Return the actions that a policy allows on all resources."""
    statements = document["Statement"]
    return {
        action
        for statement in statements
        if statement["Effect"] == "Allow" and statement["Resource"] == "*"
        for action in statement["Action"]
    }


def test_the_management_policy_allows_every_call_without_a_role(tmp_path: Path) -> None:
    """The crawler reads the organization and its own account with its own credentials, as the settings require."""
    settings = tmp_path / "kmsledger.yaml"
    text = "crawl: {iam: true, secret_policies: true}\norganization: {exclude: {tags: {stage: test}}}\n"
    settings.write_text(text, encoding="utf-8")
    policy = printed("--role", "management", "--config", str(settings))
    called = {operation.iam_action for operation in operations() if operation.service != "sts"}
    assert called - allowed(policy) == set()
    assert len(json.dumps(policy, separators=(",", ":"))) <= MANAGED_POLICY_LIMIT


def test_the_management_policy_includes_the_member_policy() -> None:
    """What the role may read in a member account, the crawler may read in its own, and neither reads data."""
    member, management = printed("--role", "member"), printed("--role", "management")
    assert set(member_actions()) >= allowed(member) > set()
    assert all(statement in management["Statement"] for statement in member["Statement"])


HUB = "arn:aws:iam::111122223333:role/Crawler"


def settings_file(folder: Path, text: str) -> str:
    """Write a settings file and return its path."""
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_trust_policy_admits_the_crawler_with_its_external_id(tmp_path: Path) -> None:
    """The role admits one identity, with the external ID of the settings, and what the settings pass into the session.

    AWS documentation (IAM, "Pass session tags in AWS STS" and "Monitor and control actions taken with assumed roles"): a trust
    policy allows sts:TagSession and sts:SetSourceIdentity too, if the request has tags or a source identity.
    """
    plain = printed("--trust-policy", "--principal", HUB)
    assert plain["Statement"] == [
        {"Sid": "AdmitTheCrawler", "Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:AssumeRole"}
    ]
    role = "role: {external_id: id-of-the-organization, source_identity: nightly, session_tags: {team: security}}\n"
    admitted, passed = printed("--trust-policy", "--principal", HUB, "--config", settings_file(tmp_path, role))[
        "Statement"
    ]
    assert admitted["Condition"] == {"StringEquals": {"sts:ExternalId": "id-of-the-organization"}}
    assert (passed["Principal"], passed["Action"]) == ({"AWS": HUB}, ["sts:SetSourceIdentity", "sts:TagSession"])
    assert "Condition" not in passed  # the external ID belongs to AssumeRole


@pytest.mark.parametrize(
    "principal", ["*", "arn:aws:sts::111122223333:assumed-role/Crawler/session", "111122223333", "Crawler", None]
)
def test_a_trust_policy_for_anything_but_an_identity_is_rejected(principal: str | None) -> None:
    """A trust policy names a role, a user or an account's root: a session would end, and everyone would be let in."""
    arguments = ["--trust-policy", *(["--principal", principal] if principal else [])]
    result = CliRunner().invoke(permissions, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert "--principal" in result.output


def test_the_tiers_differ_in_what_settings_turn_on() -> None:
    """The minimal tier lacks optional reads and fallbacks, the full tier has the actions of every option."""
    tiers = {
        tier: allowed(printed("--role", "management", "--tier", tier)) for tier in ("minimal", "configured", "full")
    }
    assert tiers["minimal"] < tiers["configured"] < tiers["full"]
    assert tiers["configured"] - tiers["minimal"] == {
        "account:ListRegions",
        "kms:GetKeyLastUsage",
        "organizations:ListAccountsForParent",
        "secretsmanager:GetResourcePolicy",
    }
    assert tiers["full"] - tiers["configured"] == {
        "iam:GetAccountAuthorizationDetails",
        "organizations:ListTagsForResource",
    }
    assume = [
        each
        for each in printed("--role", "management", "--tier", "full")["Statement"]
        if each["Sid"] == "AssumeTheRoles"
    ]
    assert assume[0]["Action"] == ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]


def test_an_account_list_needs_no_permission_in_organizations(tmp_path: Path) -> None:
    """With organization.source list, nothing reads the organization; without session tags, no session has any."""
    config = settings_file(tmp_path, "organization: {source: list, accounts: [111122223333]}\n")
    policy = printed("--role", "management", "--config", config)
    assert not any(action.startswith(("organizations:", "account:")) for action in allowed(policy))
    assert policy["Statement"][-1]["Action"] == ["sts:AssumeRole"]


def test_mail_through_ses_is_part_of_the_management_policy(tmp_path: Path) -> None:
    """With Amazon SES in the settings, the crawler's identity may send as the sender, and as nobody else, and check that."""
    config = settings_file(tmp_path, "mail: {ses: {}, sender: kms@example.org, recipients: [audit@example.org]}\n")
    sending, checking = printed("--role", "management", "--config", config)["Statement"][-2:]
    assert sending["Action"] == ["ses:SendEmail", "ses:SendRawEmail"]
    assert sending["Condition"] == {"StringEquals": {"ses:FromAddress": "kms@example.org"}}
    assert checking["Action"] == ["ses:GetAccount", "ses:GetEmailIdentity"]
    assert "Condition" not in checking


def test_one_document_has_every_policy(tmp_path: Path) -> None:
    """Without options, the document has the policies that the options print, and the key policies of both kinds of account."""
    config = ("--config", settings_file(tmp_path, "role: {external_id: id-of-the-organization}\n"))
    document = printed("--principal", HUB, *config)
    assert document["format"] == "kmsledger.permissions/1"
    assert document["member_role"]["permissions_policy"] == printed("--role", "member", *config)
    assert document["member_role"]["trust_policy"] == printed("--trust-policy", "--principal", HUB, *config)
    assert document["crawler"]["permissions_policy"] == printed("--role", "management", *config)
    statements = document["key_policy_statements"]
    assert statements["member_accounts"] == printed("--key-policy", *config)
    assert statements["account_of_the_crawler"]["Principal"] == {"AWS": HUB}
    assert "reader_role" not in document


def test_the_partition_is_that_of_the_principal() -> None:
    """The ARN of the crawler's identity shows the partition, which --partition overrides."""
    china = ("--principal", "arn:aws-cn:iam::111122223333:role/Crawler")
    resources = [
        printed("--role", "management", *options)["Statement"][-1]["Resource"].split(":")[1]
        for options in ((), china, (*china, "--partition", "aws-us-gov"))
    ]
    assert resources == ["aws", "aws-cn", "aws-us-gov"]
    key_policy = printed("--key-policy", *china)
    assert key_policy["Principal"] == {"AWS": "arn:aws-cn:iam::ACCOUNT:role/KmsInventoryReadOnly"}


def test_a_document_without_a_principal_says_what_to_replace() -> None:
    """The placeholder is no ARN, so IAM rejects it; standard error says how to fill it in, and standard output stays JSON."""
    result = CliRunner().invoke(permissions, [], catch_exceptions=False)
    assert result.exit_code == 0
    assert "CRAWLER_ARN" in result.stderr
    assert "--principal" in result.stderr
    trust = json.loads(result.stdout)["member_role"]["trust_policy"]["Statement"][0]
    assert trust["Principal"] == {"AWS": "CRAWLER_ARN"}


def test_a_reader_role_has_the_permissions_of_the_organization(tmp_path: Path) -> None:
    """With organization.reader_role, the crawler may assume it, and it reads the organization instead of the crawler."""
    reader = "arn:aws:iam::999988887777:role/OrganizationReader"
    config = settings_file(tmp_path, f"organization: {{reader_role: {reader}}}\n")
    statements = {one["Sid"]: one for one in printed("--role", "management", "--config", config)["Statement"]}
    assert statements["AssumeTheRoles"]["Resource"] == ["arn:aws:iam::*:role/KmsInventoryReadOnly", reader]
    (read,) = printed("--role", "reader", "--config", config)["Statement"]
    assert "organizations:ListAccounts" in read["Action"]
    assert "ReadTheOrganization" not in statements
