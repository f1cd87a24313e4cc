"""Renders the crawler's IAM policies as CloudFormation templates; the account, names and the external ID are parameters.

References: AWS::IAM::Role, AWS::IAM::ManagedPolicy, AWS::IAM::InstanceProfile and AWS::CloudFormation::StackSet of the
CloudFormation template reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

from crawler.iam_policies import Permissions, external_id_condition

CRAWLER_POLICY = "kmsledger-crawler"
CRAWLER_ROLE = "kmsledger-crawler"
STACK_SET = "kmsledger-member-role"
MEMBER_ROLE_NAME = "role.name in the settings of kmsledger."
CRAWLER_ROLE_NAME = "The role that runs the crawler, without a path."
SERVICES = ("ec2.amazonaws.com", "ecs-tasks.amazonaws.com")
"""Services for which the templates create the crawler's role."""
ARN_PATTERN = r"^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[\w+=,.@/-]+)$"
EXTERNAL_ID_PATTERN = r"^$|^[\w+=,.@:/-]{2,1224}$"
NO_VALUE = {"Ref": "AWS::NoValue"}

Template = dict[str, Any]


def cloudformation(permissions: Permissions, part: str, principal: str | None, origin: str) -> str:
    """Return a template as YAML: of the member role, the crawler's identity, the reader role, or of the whole organization."""
    template, comment = _TEMPLATES[part](permissions, principal)
    return f"# {origin}\n{comment}{_yaml(template)}"


class TrustingRole(NamedTuple):
    """A role that admits the crawler."""

    setting: str
    """What names the role, as a sentence."""
    path: str
    name: str
    about: str
    reads: str
    policy_name: str
    policy: dict[str, Any]
    has_boundary: bool = False
    """Whether a parameter names its permissions boundary."""


def member_role(permissions: Permissions) -> TrustingRole:
    """Return the role in every account."""
    return TrustingRole(
        MEMBER_ROLE_NAME,
        *split_role_name(permissions.settings.role.name),
        about="the role that reads the metadata of KMS keys, and of what they encrypt, in this account.",
        reads="the metadata of KMS keys",
        policy_name="kmsledger-read-metadata",
        policy=permissions.member(),
        has_boundary=True,
    )


def reader_role(permissions: Permissions) -> TrustingRole:
    """Return the role that reads the organization (``organization.reader_role``)."""
    arn = permissions.settings.organization.reader_role
    arn = arn or "arn:aws:iam::111122223333:role/KmsInventoryOrganizationReader"
    return TrustingRole(
        "The name in organization.reader_role.",
        *split_role_name(arn.partition(":role/")[2]),
        about="the role that reads the organization, for a crawler in another account.",
        reads="the organization",
        policy_name="kmsledger-read-organization",
        policy=permissions.reader(),
    )


def role_template(permissions: Permissions, role: TrustingRole, principal: str | None) -> Template:
    """Return the template of a role, for a StackSet or a stack in one account."""
    parameters = {
        "CrawlerArn": _parameter(
            "ARN of the role or user that runs the crawler.", principal, AllowedPattern=ARN_PATTERN
        ),
        "ExternalId": _external_id(permissions),
        "RoleName": _parameter(role.setting, role.name),
    }
    conditions = {} if permissions.settings.role.external_id else {"HasExternalId": _is_set("ExternalId")}
    bounded = {}
    if role.has_boundary:
        parameters["PermissionsBoundaryArn"] = _parameter(
            "Permissions boundary of the role; empty if there is none.", ""
        )
        conditions["HasBoundary"] = _is_set("PermissionsBoundaryArn")
        bounded["PermissionsBoundary"] = _if("HasBoundary", {"Ref": "PermissionsBoundaryArn"}, NO_VALUE)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"kmsledger - {role.about}",
        "Parameters": parameters,
        **({"Conditions": conditions} if conditions else {}),
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": {"Ref": "RoleName"},
                    "Path": role.path,
                    "Description": f"kmsledger reads {role.reads} with this role.",
                    "MaxSessionDuration": max_session_duration(permissions),
                    **bounded,
                    "AssumeRolePolicyDocument": _trust(permissions),
                    "Policies": [{"PolicyName": role.policy_name, "PolicyDocument": role.policy}],
                },
            }
        },
        "Outputs": {"RoleArn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}}},
    }


def crawler_template(permissions: Permissions) -> Template:
    """Return the template of the identity that runs the crawler: its policy, and its role unless that exists."""
    path, name = split_role_name(permissions.settings.role.name)
    members = {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::*:role{_literal(path)}${{MemberRoleName}}"}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "kmsledger - the permissions of the identity that runs the crawler, and its role.",
        "Parameters": {
            "MemberRoleName": _parameter(MEMBER_ROLE_NAME, name),
            "CrawlerRoleName": _parameter(CRAWLER_ROLE_NAME, CRAWLER_ROLE),
            "TrustedService": _parameter(
                "The service that runs the crawler, whose role is created; empty: the role exists.",
                SERVICES[0],
                AllowedValues=["", *SERVICES],
            ),
        },
        "Conditions": {
            "CreateRole": _is_set("TrustedService"),
            "OnEc2": {"Fn::Equals": [{"Ref": "TrustedService"}, SERVICES[0]]},
        },
        "Resources": {
            "CrawlerRole": {
                "Type": "AWS::IAM::Role",
                "Condition": "CreateRole",
                "Properties": {
                    "RoleName": {"Ref": "CrawlerRoleName"},
                    "Description": "Runs kmsledger.",
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Principal": {"Service": {"Ref": "TrustedService"}},
                                "Action": "sts:AssumeRole",
                            }
                        ],
                    },
                },
            },
            "CrawlerInstanceProfile": {
                "Type": "AWS::IAM::InstanceProfile",
                "Condition": "OnEc2",
                "Properties": {"InstanceProfileName": {"Ref": "CrawlerRoleName"}, "Roles": [{"Ref": "CrawlerRole"}]},
            },
            "CrawlerPolicy": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {
                    "ManagedPolicyName": CRAWLER_POLICY,
                    "Description": "kmsledger reads this account and the organization, and assumes the member roles.",
                    "PolicyDocument": permissions.management(members),
                    "Roles": [_if("CreateRole", {"Ref": "CrawlerRole"}, {"Ref": "CrawlerRoleName"})],
                },
            },
        },
        "Outputs": {"CrawlerArn": {"Value": _CREATED_OR_EXISTING_ROLE}},
    }


def organization_template(permissions: Permissions) -> Template:
    """Return one template for everything: the crawler's identity, and a StackSet that creates the member role elsewhere."""
    crawler = crawler_template(permissions)
    template = role_template(permissions, member_role(permissions), None)
    return crawler | {
        "Description": "kmsledger - the crawler's identity, and the member role in every account of the organization.",
        "Parameters": crawler["Parameters"]
        | {
            "ExternalId": _external_id(permissions),
            "OrganizationalUnitIds": {
                "Type": "CommaDelimitedList",
                "Description": "Organizational units (or the root) whose accounts get the member role, such as r-abcd.",
            },
            "CallAs": _parameter(
                "DELEGATED_ADMIN if this stack is in an account that administers StackSets by delegation.",
                "SELF",
                AllowedValues=["SELF", "DELEGATED_ADMIN"],
            ),
        },
        "Resources": crawler["Resources"]
        | {
            "MemberRoles": {
                "Type": "AWS::CloudFormation::StackSet",
                "Properties": {
                    "StackSetName": STACK_SET,
                    "Description": template["Description"],
                    "PermissionModel": "SERVICE_MANAGED",
                    "CallAs": {"Ref": "CallAs"},
                    "AutoDeployment": {"Enabled": True, "RetainStacksOnAccountRemoval": False},
                    "ManagedExecution": {"Active": True},
                    "Capabilities": ["CAPABILITY_NAMED_IAM"],
                    "OperationPreferences": {"FailureTolerancePercentage": 10, "MaxConcurrentPercentage": 100},
                    "Parameters": [
                        {"ParameterKey": "CrawlerArn", "ParameterValue": _CREATED_OR_EXISTING_ROLE},
                        {"ParameterKey": "RoleName", "ParameterValue": {"Ref": "MemberRoleName"}},
                        {"ParameterKey": "ExternalId", "ParameterValue": {"Ref": "ExternalId"}},
                    ],
                    "StackInstancesGroup": [
                        {
                            "DeploymentTargets": {"OrganizationalUnitIds": {"Ref": "OrganizationalUnitIds"}},
                            "Regions": [{"Ref": "AWS::Region"}],
                        }
                    ],
                    "TemplateBody": json.dumps(template, separators=(",", ":")),
                },
            }
        },
    }


def split_role_name(name: str) -> tuple[str, str]:
    """Return path and name of a role: ``/team/`` and ``Reader`` for ``team/Reader``."""
    path, _, last = name.rpartition("/")
    return (f"/{path}/" if path else "/"), last


def max_session_duration(permissions: Permissions) -> int:
    """Return the maximum session duration that a role needs, in seconds; IAM accepts no less than an hour."""
    return max(3600, permissions.settings.role.session_duration)


_MEMBER_COMMENT = """\
# Deploy it as a service-managed StackSet, in one region because IAM is global, or as a stack in one account:
#   aws cloudformation create-stack-set --stack-set-name kmsledger-member-role --permission-model SERVICE_MANAGED \\
#     --auto-deployment Enabled=true,RetainStacksOnAccountRemoval=false --capabilities CAPABILITY_NAMED_IAM \\
#     --template-body file://member-role.yaml --parameters ParameterKey=CrawlerArn,ParameterValue=ARN
#   aws cloudformation create-stack-instances --stack-set-name kmsledger-member-role --regions REGION \\
#     --deployment-targets OrganizationalUnitIds=ROOT_OR_OU_ID
# The crawler's identity must exist before. A service-managed StackSet skips the management account: if the crawler runs in
# another account, create a stack in the management account too.
"""
_CRAWLER_COMMENT = """\
# Deploy it in the account of the crawler: the management account or a delegated administrator, unless there is a reader role.
#   aws cloudformation deploy --stack-name kmsledger-crawler --template-file crawler.yaml --capabilities CAPABILITY_NAMED_IAM
"""
_ORGANIZATION_COMMENT = """\
# Deploy it in the account of the crawler: the management account, or a delegated administrator of StackSets and Organizations.
#   aws cloudformation deploy --stack-name kmsledger --template-file organization.yaml --capabilities CAPABILITY_NAMED_IAM \\
#     --parameter-overrides OrganizationalUnitIds=ROOT_ID
# A service-managed StackSet skips the management account: if the crawler runs in another account, create a stack with the member
# role in the management account too.
"""
_READER_COMMENT = """\
# Deploy it in the management account or in a delegated administrator account, whose organization a crawler elsewhere reads.
#   aws cloudformation deploy --stack-name kmsledger-reader --template-file reader-role.yaml \\
#     --capabilities CAPABILITY_NAMED_IAM --parameter-overrides CrawlerArn=ARN
"""

_TEMPLATES: Mapping[str, Callable[[Permissions, str | None], tuple[Template, str]]] = {
    "all": lambda permissions, _principal: (organization_template(permissions), _ORGANIZATION_COMMENT),
    "member": lambda permissions, principal: (
        role_template(permissions, member_role(permissions), principal),
        _MEMBER_COMMENT,
    ),
    "management": lambda permissions, _principal: (crawler_template(permissions), _CRAWLER_COMMENT),
    "reader": lambda permissions, principal: (
        role_template(permissions, reader_role(permissions), principal),
        _READER_COMMENT,
    ),
}


def _if(condition: str, value: Any, otherwise: Any) -> Template:
    return {"Fn::If": [condition, value, otherwise]}


_CREATED_OR_EXISTING_ROLE = _if(
    "CreateRole",
    {"Fn::GetAtt": ["CrawlerRole", "Arn"]},
    {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${CrawlerRoleName}"},
)


def _is_set(parameter: str) -> Template:
    return {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}


def _parameter(description: str, default: str | None = None, **more: Any) -> Template:
    return {"Type": "String", **({} if default is None else {"Default": default}), **more, "Description": description}


def external_id_meaning(permissions: Permissions) -> str:
    """Return the description of the parameter for the external ID."""
    required = permissions.settings.role.external_id is not None
    return "role.external_id in the settings of kmsledger" + ("." if required else "; empty if it is not set.")


def _external_id(permissions: Permissions) -> Template:
    required = permissions.settings.role.external_id is not None
    pattern = EXTERNAL_ID_PATTERN.removeprefix("^$|") if required else EXTERNAL_ID_PATTERN
    default = None if required else ""
    return _parameter(external_id_meaning(permissions), default, NoEcho=True, AllowedPattern=pattern)


def _trust(permissions: Permissions) -> Template:
    condition = external_id_condition({"Ref": "ExternalId"})
    if permissions.settings.role.external_id is None:
        condition = _if("HasExternalId", condition, NO_VALUE)
    return permissions.trust({"Ref": "CrawlerArn"}, condition)


def _literal(text: str) -> str:
    """Return text of a setting for Fn::Sub, which replaces ``${NAME}``."""
    return text.replace("${", "${!")


class _Dumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice, instead of an anchor and an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return whether a value is written out."""
        del data
        return True


def _yaml(template: Template) -> str:
    text: str = yaml.dump(template, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
    return text
