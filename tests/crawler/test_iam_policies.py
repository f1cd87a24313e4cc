"""The printed IAM policies allow every call of the identity to which they are attached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from crawler.cli import permissions
from crawler.iam_policies import member_actions, operations

MANAGED_POLICY_LIMIT = 6144
"""The maximum size of a managed policy in characters, without white space (IAM quotas)."""


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
    settings.write_text("database: sqlite:///ledger.db\ncrawl: {iam: true, secret_policies: true}\n", encoding="utf-8")
    policy = printed("--role", "management", "--config", str(settings))
    called = {operation.iam_action for operation in operations() if operation.service != "sts"}
    assert called - allowed(policy) == set()
    assert len(json.dumps(policy, separators=(",", ":"))) <= MANAGED_POLICY_LIMIT


def test_the_management_policy_includes_the_member_policy() -> None:
    """What the role may read in a member account, the crawler may read in its own, and neither reads data."""
    member, management = printed("--role", "member"), printed("--role", "management")
    assert set(member_actions()) >= allowed(member) > set()
    assert all(statement in management["Statement"] for statement in member["Statement"])
