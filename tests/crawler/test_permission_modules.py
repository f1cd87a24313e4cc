"""The Terraform modules are valid HCL and have the printed policies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crawler.permission_modules import Reference, hcl
from tests.crawler.test_permission_templates import PARTS, SETTINGS, config, printed

FORMATTED = """\
{
  Sid    = "A"
  Effect = "$${x} %%{if}"
  Action = [
    "a",
    "b",
  ]
  "a:b" = ["${var.x}"]
  Empty = {}
}"""


@pytest.fixture(autouse=True)
def _without_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands where no settings file is, unless a test names one."""
    monkeypatch.chdir(tmp_path)


def parsed_hcl(text: str) -> dict[str, Any]:
    """Parse HCL; the parser takes a while to import."""
    import hcl2

    parsed: dict[str, Any] = hcl2.loads(text)
    return parsed


def module(*arguments: str) -> dict[str, Any]:
    """Parse a printed module."""
    return parsed_hcl(printed("--format", "terraform", *arguments))


def value_of(expression: str) -> Any:
    """Return the value of a jsonencode expression without references."""
    body = re.fullmatch(r"\$?\{?jsonencode\((.*)\)\}?", expression, re.DOTALL)
    assert body, expression
    return _value(parsed_hcl(f"value = {body[1]}\n")["value"])


def _value(value: Any) -> Any:
    """Return a parsed value with its keys and texts without quotes."""
    if isinstance(value, dict):
        return {_value(key): _value(item) for key, item in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [_value(item) for item in value]
    return json.loads(value) if isinstance(value, str) and value.startswith('"') else value


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("part", PARTS)
def test_every_module_is_valid_and_declares_its_variables(part: str, settings: str, tmp_path: Path) -> None:
    """A module is HCL, and every variable that it uses is declared, and the reverse."""
    arguments = ("--role", part, "--tier", "full", *config(tmp_path, settings))
    text = printed("--format", "terraform", *arguments)
    declared = {_value(name) for each in module(*arguments)["variable"] for name in each}
    assert declared == set(re.findall(r"\bvar\.(\w+)", text))
    assert "id-of-the-organization" not in text


def test_the_modules_have_the_printed_policies() -> None:
    """Modules and JSON contain the same documents, except for what a variable replaces."""
    member, management = (json.loads(printed("--role", role)) for role in ("member", "management"))
    assert policy_of(module("--role", "member"), "aws_iam_role_policy") == member
    organization = module("--role", "all")
    policy = policy_of(organization, "aws_iam_policy")
    assert policy["Statement"][:-1] == management["Statement"][:-1]
    assume = policy["Statement"][-1]
    members = "arn:${data.aws_partition.current.partition}:iam::*:role/${var.member_role_name}"
    assert assume == {**management["Statement"][-1], "Resource": members}
    template = value_of(attribute(organization, "aws_cloudformation_stack_set", "template_body"))
    assert template == yaml.safe_load(printed("--format", "cloudformation", "--role", "member"))


def test_a_module_admits_the_crawler_as_the_printed_trust_policy(tmp_path: Path) -> None:
    """The trust policy has the statements of the JSON; the external ID, here required, is a sensitive variable."""
    option = config(tmp_path, "every option")
    parsed = module("--role", "member", *option)
    (document,) = (each['"aws_iam_policy_document"']['"trust"'] for each in parsed["data"])
    statements = [{name: _value(each[name]) for name in ("sid", "actions")} for each in document["statement"]]
    assert statements == [
        {"sid": "AdmitTheCrawler", "actions": ["sts:AssumeRole"]},
        {"sid": "AdmitItsTags", "actions": ["sts:SetSourceIdentity", "sts:TagSession"]},
    ]
    condition = document["statement"][0]["dynamic"][0]['"condition"']["content"][0]
    assert {name: _value(condition[name]) for name in ("test", "variable", "values")} == {
        "test": "StringEquals",
        "variable": "sts:ExternalId",
        "values": ["${var.external_id}"],
    }
    assert "dynamic" not in document["statement"][1]
    (external_id,) = (each['"external_id"'] for each in parsed["variable"] if '"external_id"' in each)
    assert external_id["sensitive"] is True
    assert "default" not in external_id


def attribute(parsed: dict[str, Any], resource: str, name: str) -> str:
    """Return an attribute of the only resource of a type."""
    (found,) = (each for each in parsed["resource"] if f'"{resource}"' in each)
    (attributes,) = found[f'"{resource}"'].values()
    return str(attributes[name])


def policy_of(parsed: dict[str, Any], resource: str) -> Any:
    """Return the policy of the only resource of a type."""
    return value_of(attribute(parsed, resource, "policy"))


def test_values_are_written_as_terraform_formats_them() -> None:
    """Names are aligned, a single short item stays on its line, and only references are replaced by Terraform."""
    value = {"Sid": "A", "Effect": "${x} %{if}", "Action": ["a", "b"], "a:b": [Reference("${var.x}")], "Empty": {}}
    assert hcl(value) == FORMATTED
