"""Our own denied calls: grouped by what fixes them, with statements that do."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from reports.access.engine.evaluator import allowed
from reports.access.engine.model import Effect
from reports.access.engine.policy_parser import parse
from reports.answers.denials import Denial, denials
from reports.answers.remediation import EXTERNAL_ID, fix
from reports.answers.repository import Facts
from tests.reports.answers.sample_organization import DATA, IRELAND, NAMED, SHARED, SHOP, UNREAD, organization, who
from tests.reports.ledger_builder import build_mart, settings_of

ROLE = "arn:aws:iam::{}:role/KmsLedger"
SCP = "arn:aws:organizations::123456789012:policy/o-exampleorg1/service_control_policy/p-12345678"


def message(account: str, action: str, why: str) -> str:
    who_asked = f"arn:aws:sts::{account}:assumed-role/KmsLedger/crawl"
    return f"User: {who_asked} is not authorized to perform: {action} on resource: * {why}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Denial]:
    """Denials of every cause."""
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
    refused = "User: arn:aws:sts::123456789012:assumed-role/hub/night is not authorized to perform: sts:AssumeRole"
    for account in ("222233334444", "333344445555"):
        world.account(account, f"Locked {account[0]}", IRELAND)
        role = ROLE.format(account)
        world.gap(
            account, "*", "sts:AssumeRole", role, "role_missing_or_untrusted", code="AccessDenied", message=refused
        )
    world.gap(SHOP, IRELAND, "secretsmanager:ListSecrets", cause="throttled")
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "denials.duckdb"})
    build_mart(settings)
    answer = denials(settings.report.mart)
    assert answer.others == 1
    return answer.denials


def of(found: list[Denial], fix_in: str) -> list[Denial]:
    return [one for one in found if one.fix_in == fix_in]


def test_one_statement_fixes_many(found: list[Denial]) -> None:
    """Keys that lack the same actions share a statement; so do accounts whose role lacks the same permissions."""
    keys = {one.actions: one for one in of(found, "key policy")}
    assert {actions: one.subjects for actions, one in keys.items()} == {
        ("kms:GetKeyPolicy", "kms:ListGrants"): [UNREAD],
        ("kms:ListGrants",): [SHARED, NAMED],
    }
    (role,) = of(found, "role policy")
    assert set(role.accounts) == {SHOP, DATA}
    assert role.role == ROLE.format("*")
    assert role.fix.statement == {
        "Sid": "ReadMetadata",
        "Effect": "Allow",
        "Action": ["elasticache:DescribeCacheClusters", "rds:DescribeDBInstances"],
        "Resource": "*",
    }


def test_the_statement_for_a_key_policy_lets_the_role_in(found: list[Denial], facts: Facts) -> None:
    """With the statement in the policy of a key that delegates to nobody, the engine allows each denied action, and no more."""
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
    for one in of(found, "key policy"):
        role = ROLE.format(DATA)
        for added, effect in (([], Effect.DENY), ([one.fix.statement], Effect.ALLOW)):
            policy = parse(orjson.dumps(document | {"Statement": [*document["Statement"], *added]}).decode())
            answers = {allowed(policy, key.facts, facts.organization, role, action).effect for action in one.actions}
            assert answers == {effect}
            assert allowed(policy, key.facts, facts.organization, role, "kms:Decrypt").effect is Effect.DENY


def test_a_service_control_policy_gets_an_exception(found: list[Denial]) -> None:
    """The policy that AWS names is told, and the condition that leaves our role out."""
    (one,) = of(found, "service control policy")
    assert SCP in one.fix.where
    assert one.fix.statement == {"Condition": {"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:role/KmsLedger"]}}}


def test_a_trust_policy_for_all_accounts(found: list[Denial]) -> None:
    """Two accounts share the trust statement, which names who assumes the role and tells no external id."""
    (one,) = of(found, "trust policy")
    assert len(one.accounts) == 2
    statement = one.fix.statement or {}
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:role/hub"}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}


@pytest.mark.parametrize(
    ("cause", "fix_in", "words"),
    [
        ("session_policy", "session policy", "role.session_policy: false"),
        ("permissions_boundary", "permissions boundary", "permissions boundary of role KmsLedger"),
        ("service_control_policy", "service control policy", "at every level"),
        ("assume_role_permission", "caller policy", "the identity that runs the crawler"),
        ("external_id", "trust policy", "ask for the configured external id"),
        ("denied", "role policy", "AWS gave no reason"),
        ("explicit_deny", "denying policy", "Deny statement"),
    ],
)
def test_every_cause_has_its_place(cause: str, fix_in: str, words: str) -> None:
    """Each says where the statement goes, and how sure that is; each statement is JSON."""
    one = fix(cause, fix_in, ROLE.format(SHOP), ["kms:ListKeys"], [""], None)
    assert words in one.where
    assert one.certain is (cause not in {"denied", "explicit_deny"})
    assert json.loads(json.dumps(one.statement)) == one.statement


def test_nothing_denied(tmp_path: Path) -> None:
    """That is one sentence."""
    world = organization(tmp_path / "ledger.db")
    world.facts.pop(next(model for model in world.facts if model.__name__ == "Gap"))
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": tmp_path / "quiet.duckdb"})
    build_mart(settings)
    assert denials(settings.report.mart).lines()[0].startswith("No call of ours was denied.")
