"""The CloudFormation templates have the printed policies and pass CloudFormation's linter."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from click.testing import CliRunner

from crawler.cli import permissions
from crawler.permission_templates import split_role_name

PARTS = ("all", "member", "management", "reader")
HUB = "arn:aws:iam::111122223333:role/Crawler"
SETTINGS = {
    "default": "{}",
    "every option": """
role:
  name: team/security/Reader
  external_id: id-of-the-organization
  source_identity: nightly
  session_tags: {team: security}
  session_duration: 7200
crawl: {iam: true}
organization:
  reader_role: arn:aws:iam::999988887777:role/path/OrganizationReader
  include: {tags: {stage: prod}}
mail: {ses: {}, sender: kms@example.org, recipients: [audit@example.org]}
""",
}


def printed(*arguments: str) -> str:
    """Return what the command prints."""
    result = CliRunner().invoke(permissions, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def config(directory: Path, settings: str) -> tuple[str, str]:
    """Write a settings file and return the option that names it."""
    path = directory / "kmsledger.yaml"
    path.write_text(SETTINGS.get(settings, settings), encoding="utf-8")
    return "--config", str(path)


def problems(template: str) -> list[str]:
    """Return what the linter reports; IAM actions that AWS does not have are among it."""
    return [str(match) for match in lint(template, config=ManualArgs(regions=["us-east-1", "eu-west-1"]))]


@pytest.mark.deep  # the linter loads the schemas of all regions
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("part", PARTS)
def test_every_template_passes_the_linter(part: str, settings: str, tmp_path: Path) -> None:
    """cfn-lint reports nothing about a template, with any settings, nor about the one within the StackSet."""
    text = printed("--format", "cloudformation", "--role", part, "--tier", "full", *config(tmp_path, settings))
    assert problems(text) == []
    if part == "all":
        assert problems(yaml.safe_load(text)["Resources"]["MemberRoles"]["Properties"]["TemplateBody"]) == []


@pytest.mark.deep  # as above
def test_the_linter_knows_the_actions_of_aws() -> None:
    """A misspelled action would be noticed: the linter compares actions with those of AWS."""
    text = printed("--format", "cloudformation", "--role", "member")
    assert "W3037" in "".join(problem.rule.id for problem in lint(text.replace("kms:ListKeys", "kms:ListKeyz")))


def test_the_templates_have_the_printed_policies() -> None:
    """Templates and JSON contain the same documents, except for what a parameter replaces."""
    member, management = (json.loads(printed("--role", role)) for role in ("member", "management"))
    template = yaml.safe_load(printed("--format", "cloudformation", "--role", "member"))
    assert template["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"] == member
    template = yaml.safe_load(printed("--format", "cloudformation", "--role", "all"))
    policy = template["Resources"]["CrawlerPolicy"]["Properties"]["PolicyDocument"]
    assume = policy["Statement"][-1]
    assert assume["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/${MemberRoleName}"}
    assert {**assume, "Resource": "arn:aws:iam::*:role/KmsInventoryReadOnly"} == management["Statement"][-1]
    assert policy["Statement"][:-1] == management["Statement"][:-1]
    body = json.loads(template["Resources"]["MemberRoles"]["Properties"]["TemplateBody"])
    assert body["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"] == member


def test_an_external_id_is_never_in_a_template(tmp_path: Path) -> None:
    """The external ID of the settings is a parameter without a default, which CloudFormation does not show."""
    text = printed("--format", "cloudformation", *config(tmp_path, "every option"))
    assert "id-of-the-organization" not in text
    parameter = yaml.safe_load(text)["Parameters"]["ExternalId"]
    assert parameter["NoEcho"] is True
    assert "Default" not in parameter


def test_a_long_session_needs_a_role_that_allows_it(tmp_path: Path) -> None:
    """role.session_duration beyond an hour raises the maximum of the role; IAM accepts no lower maximum than an hour."""
    member = ("--format", "cloudformation", "--role", "member")
    role = yaml.safe_load(printed(*member, *config(tmp_path, "every option")))["Resources"]["Role"]["Properties"]
    assert role["MaxSessionDuration"] == 7200
    assert yaml.safe_load(printed(*member))["Resources"]["Role"]["Properties"]["MaxSessionDuration"] == 3600


def test_a_template_has_complete_roles_only() -> None:
    """--trust-policy and --key-policy print JSON; together with a template they are a usage error."""
    result = CliRunner().invoke(permissions, ["--format", "terraform", "--trust-policy", "--principal", HUB])
    assert result.exit_code == 2
    assert "--trust-policy" in result.output


def test_the_output_file_has_what_would_be_printed(tmp_path: Path) -> None:
    """--output writes the template to a file."""
    path = tmp_path / "member-role.yaml"
    arguments = ("--format", "cloudformation", "--role", "member")
    assert printed(*arguments, "--output", str(path)) == ""
    assert path.read_text(encoding="utf-8") == printed(*arguments)


def test_a_role_name_is_no_reference(tmp_path: Path) -> None:
    """CloudFormation and Terraform replace references; a role name that looks like one is escaped."""
    option = config(tmp_path, "role: {name: '$${AWS::Region}/Reader'}\n")
    template = yaml.safe_load(printed("--format", "cloudformation", "--role", "management", *option))
    (*_, assume) = template["Resources"]["CrawlerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert assume["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/${!AWS::Region}/${MemberRoleName}"}
    module = printed("--format", "terraform", "--role", "management", *option)
    assert "role/$${AWS::Region}/${var.member_role_name}" in module


@pytest.mark.parametrize(("name", "path_and_name"), [("Reader", ("/", "Reader")), ("a/b/Reader", ("/a/b/", "Reader"))])
def test_a_role_name_may_have_a_path(name: str, path_and_name: tuple[str, str]) -> None:
    """Path and name of a role are separate properties in IAM."""
    assert split_role_name(name) == path_and_name


@pytest.mark.deep  # loads moto
def test_stacks_create_the_roles_with_the_printed_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Created by a CloudFormation implementation, the roles have the policies that the command prints."""
    from moto import mock_aws

    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        formation, iam = (boto3.client(service, region_name="us-east-1") for service in ("cloudformation", "iam"))
        _create(formation, "member", CrawlerArn=HUB, ExternalId="an-external-id")
        _create(formation, "management")
        role = iam.get_role(RoleName="KmsInventoryReadOnly")["Role"]
        trust: Any = role["AssumeRolePolicyDocument"]
        assert trust["Statement"] == [
            {
                "Sid": "AdmitTheCrawler",
                "Effect": "Allow",
                "Principal": {"AWS": HUB},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": "an-external-id"}},
            }
        ]
        (name,) = iam.list_role_policies(RoleName="KmsInventoryReadOnly")["PolicyNames"]
        policy = iam.get_role_policy(RoleName="KmsInventoryReadOnly", PolicyName=name)["PolicyDocument"]
        assert _document(policy) == json.loads(printed("--role", "member"))
        (attached,) = iam.list_attached_role_policies(RoleName="kmsledger-crawler")["AttachedPolicies"]
        version: Any = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")["PolicyVersion"]
        assert version["Document"] == json.loads(printed("--role", "management"))


def _document(policy: Any) -> Any:
    """Return a document, of which moto returns the representation of a dict."""
    return ast.literal_eval(policy) if isinstance(policy, str) else policy


def _create(formation: Any, part: str, **parameters: str) -> None:
    formation.create_stack(
        StackName=part,
        TemplateBody=printed("--format", "cloudformation", "--role", part),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
