"""Key policies and grants, each with the AWS rule behind it and exactly the access that it gives."""

from __future__ import annotations

import pytest

from reports.access.engine.grant_analysis import analyse_grant
from reports.access.engine.policy_analysis import analyse_policy
from tests.reports.access.engine import (
    cases_callers,
    cases_conditions,
    cases_denials,
    cases_documents,
    cases_grants,
    cases_principals,
)
from tests.reports.access.engine.cases import Case, GrantCase, check, grant_of, policy_of

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
