"""The principals of a key."""

from __future__ import annotations

from typing import Any

from reports.access.engine.policy_analysis import analyse_policy
from reports.answers.key_access import _KeyQuery
from reports.answers.repository import Facts, Key
from tests.reports.access.engine.cases import FACTS, KEY, ORGANIZATION, SISTER, allow, policy_of, service


def test_a_service_that_acts_for_an_account_of_the_organization_is_a_principal() -> None:
    """It has access whatever the IAM of that account allows, which is not even requested."""
    statement = allow(service("sns.amazonaws.com"), when={"StringEquals": {"aws:SourceAccount": SISTER}})
    verdicts = analyse_policy(policy_of([statement]), FACTS, ORGANIZATION).verdicts
    key = Key(FACTS, KEY, "eu-west-1", "Enabled", None, "", (), "")
    unused: Any = None
    facts = Facts(unused, unused, ORGANIZATION, account_names={}, iam={})
    principals = [*_KeyQuery(facts, key, unused, unused).named_principals(verdicts)]
    assert [(each.principal, each.account_id, each.answer) for each in principals] == [
        ("sns.amazonaws.com", None, "yes"),
        ("sns.amazonaws.com", SISTER, "yes"),
    ]
