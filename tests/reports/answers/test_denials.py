"""Denied calls of the crawler: grouped by fix, with statements that work."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import orjson
import pytest

from models.remediation import EXTERNAL_ID, FIX_IN, fix
from reports.access.engine.evaluator import allowed
from reports.access.engine.model import Effect
from reports.access.engine.policy_parser import parse
from reports.answers.denials import Denial, denials
from reports.answers.repository import Facts
from tests.reports.answers.sample_organization import DATA, IRELAND, NAMED, SHARED, SHOP, UNREAD, organization, who
from tests.reports.ledger_builder import build_mart, settings_of

ROLE = "arn:aws:iam::{}:role/KmsLedger"
SCP = "arn:aws:organizations::123456789012:policy/o-exampleorg1/service_control_policy/p-12345678"


def message(account: str, action: str, why: str) -> str:
    caller = f"arn:aws:sts::{account}:assumed-role/KmsLedger/crawl"
    return f"User: {caller} is not authorized to perform: {action} on resource: * {why}"


@pytest.fixture(scope="module")
def denied(tmp_path_factory: pytest.TempPathFactory) -> list[Denial]:
    """Denials of several causes, grouped by fix."""
    folder = tmp_path_factory.mktemp("denials")
    world = organization(folder / "ledger.db")
    for account in (SHOP, DATA):
        for action in ("rds:DescribeDBInstances", "elasticache:DescribeCacheClusters"):
            why = f"because no identity-based policy allows the {action} action"
            world.gap(account, IRELAND, action, cause="role_permission", message=message(account, action, why))
    why = f"with an explicit deny in a service control policy: {SCP}"
    world.gap(
        SHOP, "global", "s3:ListAllMyBuckets", cause="service_control_policy", message=message(SHOP, "s3:List", why)
    )
    world.gap(DATA, IRELAND, "kms:ListGrants", NAMED, "key_policy", message=message(DATA, "kms:ListGrants", ""))
    world.gap(DATA, IRELAND, "kms:ListGrants", SHARED, "key_policy", message=message(DATA, "kms:ListGrants", ""))
    message_from_sts = (
        "User: arn:aws:sts::123456789012:assumed-role/hub/crawl is not authorized to perform: sts:AssumeRole"
    )
    for account in ("222233334444", "333344445555"):
        world.account(account, f"Locked {account[0]}", IRELAND)
        role = ROLE.format(account)
        world.gap(
            account,
            "*",
            "sts:AssumeRole",
            role,
            "role_missing_or_untrusted",
            code="AccessDenied",
            message=message_from_sts,
        )
    world.gap(SHOP, IRELAND, "secretsmanager:ListSecrets", cause="throttled")
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "denials.duckdb"})
    build_mart(settings)
    result = denials(settings.report.mart)
    assert result.other_gaps == 1
    return result.denials


def with_fix_in(denied: list[Denial], fix_in: str) -> list[Denial]:
    return [denial for denial in denied if denial.fix_in == fix_in]


def test_one_statement_fixes_many(denied: list[Denial]) -> None:
    """Keys with the same denied actions share a statement, and so do accounts whose role lacks the same permissions."""
    keys = {denial.actions: denial for denial in with_fix_in(denied, "key_policy")}
    assert {actions: denial.subjects for actions, denial in keys.items()} == {
        ("kms:GetKeyPolicy", "kms:ListGrants"): [UNREAD],
        ("kms:ListGrants",): [SHARED, NAMED],
    }
    (role,) = with_fix_in(denied, "role_policy")
    assert set(role.accounts) == {SHOP, DATA}
    assert role.role == ROLE.format("*")
    assert role.fix.statement == {
        "Sid": "ReadMetadata",
        "Effect": "Allow",
        "Action": ["elasticache:DescribeCacheClusters", "rds:DescribeDBInstances"],
        "Resource": "*",
    }


def test_the_statement_for_a_key_policy_allows_the_denied_actions(denied: list[Denial], facts: Facts) -> None:
    """With the statement in a key policy that does not delegate, the engine allows exactly the denied actions."""
    key = facts.key(NAMED)
    assert key is not None
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Reader",
                "Effect": "Allow",
                "Principal": {"AWS": who(DATA, "role/reader")},
                "Action": "kms:Decrypt",
                "Resource": "*",
            }
        ],
    }
    for denial in with_fix_in(denied, "key_policy"):
        role = ROLE.format(DATA)
        for added, effect in (([], Effect.DENY), ([denial.fix.statement], Effect.ALLOW)):
            policy = parse(orjson.dumps(document | {"Statement": [*document["Statement"], *added]}).decode())
            answers = {allowed(policy, key.facts, facts.organization, role, action).effect for action in denial.actions}
            assert answers == {effect}
            assert allowed(policy, key.facts, facts.organization, role, "kms:Decrypt").effect is Effect.DENY


def test_a_service_control_policy_gets_an_exception(denied: list[Denial]) -> None:
    """The fix names the policy that AWS named, and the condition exempts the crawler's role."""
    (denial,) = with_fix_in(denied, "service_control_policy")
    assert SCP in denial.fix.where
    assert denial.fix.statement == {
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:role/KmsLedger"]}}
    }


def test_a_trust_policy_for_all_accounts(denied: list[Denial]) -> None:
    """Two accounts share the trust statement, which names the assuming role and does not contain the external ID."""
    (denial,) = with_fix_in(denied, "trust_policy")
    assert len(denial.accounts) == 2
    statement = denial.fix.statement or {}
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:role/hub"}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}


@pytest.mark.parametrize(
    ("cause", "fix_in", "expected"),
    [
        ("session_policy", "session_policy", "role.session_policy: false"),
        ("permissions_boundary", "permissions_boundary", "permissions boundary of role KmsLedger"),
        ("service_control_policy", "service_control_policy", "at every level"),
        ("assume_role_permission", "caller_policy", "the identity that runs the crawler"),
        ("external_id", "trust_policy", "require the configured external ID"),
        ("denied", "role_policy", "AWS gave no reason"),
        ("explicit_deny", "denying_policy", "Deny statement"),
    ],
)
def test_every_cause_has_a_fix(cause: str, fix_in: str, expected: str) -> None:
    """The fix names the policy and whether it is certain, and its statement is JSON."""
    remedy = fix(cause, fix_in, ROLE.format(SHOP), ["kms:ListKeys"], [""], None)
    assert expected in remedy.where
    assert remedy.certain is (cause not in {"denied", "explicit_deny"})
    assert json.loads(json.dumps(remedy.statement)) == remedy.statement


def test_the_causes_of_denials_are_those_of_the_view() -> None:
    """The view access_denials and the commands that read no mart fix each cause in the same policy."""
    view = resources.files("reports.mart.views").joinpath("40_access_denials.sql").read_text(encoding="utf-8")
    causes, places = (re.findall(r"'(\w+)'", listed) for listed in re.findall(r"unnest\(\[(.*?)\]\)", view, re.DOTALL))
    assert dict(zip(causes, places, strict=True)) == FIX_IN


def test_nothing_denied(without_denials: Path) -> None:
    """Without denied calls, the first line of the text says so."""
    assert denials(without_denials).to_text().startswith("No call was denied.")
