"""Renders the crawler's IAM policies as Terraform modules in HCL; the account, names and the external ID are variables.

References: aws_iam_role, aws_iam_policy, aws_iam_policy_document, aws_cloudformation_stack_set (Terraform provider for AWS).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from crawler.iam_policies import Permissions
from crawler.permission_templates import (
    CRAWLER_POLICY,
    CRAWLER_ROLE,
    CRAWLER_ROLE_NAME,
    MEMBER_ROLE_NAME,
    SERVICES,
    STACK_SET,
    TrustingRole,
    external_id_meaning,
    max_session_duration,
    member_role,
    reader_role,
    role_template,
    split_role_name,
)


class Reference(str):
    """A text in which Terraform replaces ``${...}``; in any other text this is escaped."""

    __slots__ = ()


def terraform(permissions: Permissions, part: str, principal: str | None, origin: str) -> str:
    """Return a module: of the member role, the crawler's identity, the reader role, or of the whole organization."""
    return f"# {origin}\n{_MODULES[part](permissions, principal)}"


def hcl(value: Any, indent: int = 0) -> str:
    """Return a JSON value as an expression, formatted as ``terraform fmt`` does."""
    inner = "  " * (indent + 1)
    if isinstance(value, Mapping) and value:
        names = (name if re.fullmatch(r"[A-Za-z_]\w*", name) else _quoted(name) for name in value)
        items = list(zip(names, (hcl(item, indent + 1) for item in value.values()), strict=True))
        lines = [f"{inner}{name} = {text}" for name, text in _aligned(items)]
        return "\n".join(["{", *lines, "  " * indent + "}"])
    if isinstance(value, list) and value:
        texts = [hcl(item, indent + 1) for item in value]
        if len(texts) == 1 and "\n" not in texts[0]:
            return f"[{texts[0]}]"
        return "\n".join(["[", *[f"{inner}{text}," for text in texts], "  " * indent + "]"])
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _aligned(items: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return items whose names have the same width where consecutive values take one line each."""
    result: list[tuple[str, str]] = []
    run: list[tuple[str, str]] = []
    for name, text in [*items, ("", "\n")]:
        if "\n" not in text:
            run.append((name, text))
            continue
        width = max((len(each) for each, _ in run), default=0)
        result += [(each.ljust(width), value) for each, value in run]
        result += [(name, text)] if name else []
        run = []
    return result


def _quoted(text: str) -> str:
    return json.dumps(text if isinstance(text, Reference) else _escaped(text), ensure_ascii=False)


def _escaped(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")


def _variable(
    name: str, description: str, default: str | None = None, *, sensitive: bool = False, nullable: bool = False
) -> str:
    items = [("description", _quoted(description)), ("type", "string")]
    if default is not None or nullable:
        items.append(("default", "null" if default is None else _quoted(default)))
    if sensitive:
        items.append(("sensitive", "true"))
    lines = "\n".join(f"  {key} = {value}" for key, value in _aligned(items))
    return f'variable "{name}" {{\n{lines}\n}}\n'


_HEADER = """\
terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}
"""


def _trust_document(permissions: Permissions) -> str:
    required = permissions.settings.role.external_id is not None
    blocks = []
    for statement in permissions.trust(Reference("var.crawler_arn"))["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        block = f"""\
  statement {{
    sid     = {_quoted(statement["Sid"])}
    actions = {hcl(actions, 2)}

    principals {{
      type        = "AWS"
      identifiers = [{statement["Principal"]["AWS"]}]
    }}
"""
        if statement["Action"] == "sts:AssumeRole":
            every = "[1]" if required else 'nonsensitive(var.external_id != "") ? [1] : []'
            block += f"""
    dynamic "condition" {{
      for_each = {every}

      content {{
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [var.external_id]
      }}
    }}
"""
        blocks.append(f"{block}  }}\n")
    return 'data "aws_iam_policy_document" "trust" {\n' + "\n".join(blocks) + "}\n"


def _external_id(permissions: Permissions) -> str:
    default = None if permissions.settings.role.external_id is not None else ""
    return _variable("external_id", external_id_meaning(permissions), default, sensitive=True)


def _module(about: str, *blocks: str) -> str:
    return "\n".join([about, _HEADER, *blocks])


def _role(permissions: Permissions, role: TrustingRole, principal: str | None, about: str) -> str:
    """Return the module of a role that admits the crawler."""
    boundary = _variable("permissions_boundary", "Permissions boundary of the role (ARN).", nullable=True)
    bounded = "  permissions_boundary = var.permissions_boundary\n"
    resources = f"""\
resource "aws_iam_role" "this" {{
  name                 = var.role_name
  path                 = {_quoted(role.path)}
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = {max_session_duration(permissions)}
{bounded if role.has_boundary else ""}}}

resource "aws_iam_role_policy" "this" {{
  name = {_quoted(role.policy_name)}
  role = aws_iam_role.this.id

  policy = jsonencode({hcl(role.policy, 1)})
}}

output "role_arn" {{
  value = aws_iam_role.this.arn
}}
"""
    return _module(
        about,
        _variable("crawler_arn", "ARN of the role or user that runs the crawler.", principal),
        _external_id(permissions),
        _variable("role_name", role.setting, role.name),
        *([boundary] if role.has_boundary else []),
        _trust_document(permissions),
        resources,
    )


def _member(permissions: Permissions, principal: str | None) -> str:
    about = "# The role in one account. The crawler's identity must exist before."
    return _role(permissions, member_role(permissions), principal, about)


def _reader(permissions: Permissions, principal: str | None) -> str:
    about = "# The role that reads the organization, in the management account or a delegated administrator account."
    return _role(permissions, reader_role(permissions), principal, about)


def _crawler(permissions: Permissions, _principal: str | None) -> str:
    about = "# The permissions of the identity that runs the crawler, and its role."
    return _module(about, *_crawler_variables(permissions), _crawler_resources(permissions))


def _organization(permissions: Permissions, _principal: str | None) -> str:
    about = """\
# The crawler's identity, and a service-managed StackSet that creates the member role in every account. Apply it in the account
# of the crawler: the management account, or a delegated administrator of StackSets and Organizations. A service-managed StackSet
# skips the management account: if the crawler runs in another account, apply the module of the member role there too."""
    units = """\
variable "organizational_unit_ids" {
  description = "Organizational units (or the root) whose accounts get the member role, such as r-abcd."
  type        = list(string)
}
"""
    return _module(
        about,
        *_crawler_variables(permissions),
        _external_id(permissions),
        units,
        _variable("call_as", "DELEGATED_ADMIN if the account administers StackSets by delegation.", "SELF"),
        _crawler_resources(permissions),
        _STACK_SET % hcl(role_template(permissions, member_role(permissions), None), 1),
    )


def _crawler_variables(permissions: Permissions) -> list[str]:
    _, name = split_role_name(permissions.settings.role.name)
    service = (
        f"The service that runs the crawler, whose role is created ({' or '.join(SERVICES)}); empty: the role exists."
    )
    return [
        _variable("member_role_name", MEMBER_ROLE_NAME, name),
        _variable("crawler_role_name", CRAWLER_ROLE_NAME, CRAWLER_ROLE),
        _variable("trusted_service", service, SERVICES[0]),
    ]


def _crawler_resources(permissions: Permissions) -> str:
    path, _ = split_role_name(permissions.settings.role.name)
    members = Reference(
        f"arn:${{data.aws_partition.current.partition}}:iam::*:role{_escaped(path)}${{var.member_role_name}}"
    )
    service = {
        "Effect": "Allow",
        "Principal": {"Service": Reference("${var.trusted_service}")},
        "Action": "sts:AssumeRole",
    }
    account = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}"
    existing = f"{account}:role/${{var.crawler_role_name}}"
    return f"""\
data "aws_caller_identity" "current" {{}}

data "aws_partition" "current" {{}}

locals {{
  create_role  = var.trusted_service != ""
  existing_arn = "{existing}"
  crawler_arn  = local.create_role ? aws_iam_role.crawler[0].arn : local.existing_arn
}}

resource "aws_iam_role" "crawler" {{
  count = local.create_role ? 1 : 0

  name        = var.crawler_role_name
  description = "Runs kmsledger."

  assume_role_policy = jsonencode({hcl({"Version": "2012-10-17", "Statement": [service]}, 1)})
}}

resource "aws_iam_instance_profile" "crawler" {{
  count = var.trusted_service == "{SERVICES[0]}" ? 1 : 0

  name = var.crawler_role_name
  role = aws_iam_role.crawler[0].name
}}

resource "aws_iam_policy" "crawler" {{
  name        = "{CRAWLER_POLICY}"
  description = "kmsledger reads this account and the organization, and assumes the member roles."

  policy = jsonencode({hcl(permissions.management(members), 1)})
}}

resource "aws_iam_role_policy_attachment" "crawler" {{
  role       = local.create_role ? aws_iam_role.crawler[0].name : var.crawler_role_name
  policy_arn = aws_iam_policy.crawler.arn
}}

output "crawler_arn" {{
  value = local.crawler_arn
}}
"""


_STACK_SET = f"""\
resource "aws_cloudformation_stack_set" "member" {{
  name             = "{STACK_SET}"
  description      = "kmsledger - the member role in every account."
  permission_model = "SERVICE_MANAGED"
  call_as          = var.call_as
  capabilities     = ["CAPABILITY_NAMED_IAM"]

  auto_deployment {{
    enabled                          = true
    retain_stacks_on_account_removal = false
  }}

  managed_execution {{
    active = true
  }}

  operation_preferences {{
    failure_tolerance_percentage = 10
    max_concurrent_percentage    = 100
  }}

  parameters = {{
    CrawlerArn = local.crawler_arn
    ExternalId = var.external_id
    RoleName   = var.member_role_name
  }}

  template_body = jsonencode(%s)

  lifecycle {{
    ignore_changes = [administration_role_arn]
  }}
}}

resource "aws_cloudformation_stack_set_instance" "member" {{
  stack_set_name = aws_cloudformation_stack_set.member.name
  call_as        = var.call_as

  deployment_targets {{
    organizational_unit_ids = var.organizational_unit_ids
  }}
}}
"""

_MODULES: Mapping[str, Callable[[Permissions, str | None], str]] = {
    "all": _organization,
    "member": _member,
    "management": _crawler,
    "reader": _reader,
}
