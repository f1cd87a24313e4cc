"""Key policies and grants, each with the AWS rule behind it and exactly the access that it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.access.engine.grant_analysis import analyse_grant
from reports.access.engine.model import Access
from reports.access.engine.policy_analysis import analyse_policy
from tests.reports.access.engine import (
    cases_callers,
    cases_conditions,
    cases_denials,
    cases_documents,
    cases_grants,
    cases_principals,
)
from tests.reports.access.engine.cases import (
    FACTS,
    ORGANIZATION,
    OUTSIDER,
    Case,
    GrantCase,
    allow,
    check,
    grant_of,
    policy_of,
    root,
    service,
)

POLICIES: list[Case] = [
    *cases_principals.CASES,
    *cases_callers.CASES,
    *cases_conditions.CASES,
    *cases_denials.CASES,
    *cases_documents.CASES,
]


def test_cases_are_complete_and_unique() -> None:
    """There are at least 200 cases with unique names, and each names its rule."""
    names = [case.id for case in POLICIES] + [case.id for case in cases_grants.CASES]
    assert len(names) == len(set(names)) >= 200
    assert all(case.rule for case in POLICIES)


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.id)
def test_policy_gives_exactly_the_expected_access(case: Case) -> None:
    """Every expected class, principal, account and operation is present, and nothing else."""
    analysis = analyse_policy(policy_of(case.statements, case.version), case.facts, case.organization)
    check(analysis.verdicts, case.expect)
    codes = {finding.code for finding in analysis.lint_findings}
    assert case.lint_findings <= codes
    assert not case.silent & codes
    for verdict in analysis.verdicts:
        assert bool(verdict.reason) == (verdict.access == "unknown")
        assert verdict.message.endswith(".")


@pytest.mark.parametrize("case", cases_grants.CASES, ids=lambda case: case.id)
def test_grant_gives_exactly_the_expected_access(case: GrantCase) -> None:
    """The grantee and the retiring principals have the expected access, less what a Deny removes."""
    policy = None if case.statements is None else policy_of(case.statements)
    verdicts = analyse_grant(grant_of(case.grant), case.facts, case.organization, policy)
    check(verdicts, case.expect)
    assert {(verdict.path, verdict.source_id, verdict.statement_index) for verdict in verdicts} <= {
        ("grant", "g-1", None)
    }
    for verdict in verdicts:
        assert bool(verdict.reason) == (verdict.access == "unknown")
        assert verdict.message.endswith(".")


@pytest.mark.parametrize(
    ("principal", "name"),
    [
        (service("sns.amazonaws.com"), "The AWS service sns.amazonaws.com"),
        (service("sns.amazonaws.com.cn"), "The AWS service sns.amazonaws.com.cn"),
        ("*", "An AWS service"),
    ],
)
def test_a_service_needs_no_iam_policy_of_the_account_that_it_acts_for(principal: Any, name: str) -> None:
    """IAM policies do not apply to service principals (IAM user guide: policy evaluation logic, service principals)."""
    statement = allow(principal, when={"StringEquals": {"aws:SourceAccount": OUTSIDER}})
    verdicts = analyse_policy(policy_of([statement]), FACTS, ORGANIZATION).verdicts
    (verdict,) = [verdict for verdict in verdicts if verdict.account == OUTSIDER]
    assert (verdict.access, verdict.needs_iam) == (Access.EXTERNAL, False)
    assert verdict.message.startswith(f"{name} on behalf of {OUTSIDER} can kms:Decrypt through statement #0")
    assert replace(verdict, principal=root(OUTSIDER), conditions="").needs_iam
