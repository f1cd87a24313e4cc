"""Tests of a role that the vendor assumes (Cerby): its policies, trust, the keys it names, and whether their use is logged."""

from __future__ import annotations

import pytest

from reports.vendors.cli import exit_code
from tests.reports.vendors.organization import CERBY_USE, LOGS, OREGON, ROLES, Scenarios, findings, results


def test_a_vault_as_documented(scenarios: Scenarios) -> None:
    """Primary and replica are accessible through the role, without findings."""
    rows = scenarios.check("vault", "cerby", CERBY_USE)
    assert results(rows) == ["accessible", "accessible"]
    assert findings(rows) == set()


@pytest.mark.parametrize("case", ROLES)
def test_a_role_that_is_not_as_documented(scenarios: Scenarios, case: str) -> None:
    """Trust, external ID and actions are findings about the role; missing access also blocks the key."""
    _, _, result, expected = ROLES[case]
    rows = scenarios.check(f"role {case}", "cerby", CERBY_USE)
    assert results(rows) == [result, result]
    assert findings(rows) == expected


def test_a_vault_without_replica_of_a_weak_key(scenarios: Scenarios) -> None:
    """The missing replica is wrong; RSA_2048 is accepted with advice."""
    rows = {row["check_name"]: row for row in scenarios.check("weak vault", "cerby", CERBY_USE)}
    assert rows["access"]["result"] == "accessible"
    assert OREGON in rows["replica_missing"]["reason"]
    assert rows["key_spec"]["result"] == "advice"


@pytest.mark.parametrize("case", LOGS)
def test_whether_the_use_of_the_keys_is_logged(scenarios: Scenarios, case: str) -> None:
    """Missing logging is advice, unread trails are unknown."""
    _, _, _, result, text = LOGS[case]
    checks = [row for row in scenarios.check(f"logs {case}", "cerby", CERBY_USE) if row["check_name"] == "logging"]
    assert {row["result"] for row in checks} == ({result} if result else set())
    assert len(checks) == (2 if result else 0)
    assert all(text in row["reason"] for row in checks)


def test_unread_iam_is_unknown(scenarios: Scenarios) -> None:
    """Without IAM the result is unknown; with IAM, a missing role blocks."""
    rows = scenarios.check("iam unread", "cerby", CERBY_USE)
    assert results(rows) == ["unknown", "unknown"]
    assert exit_code(rows, "high") == 3
    rows = scenarios.check("role missing", "cerby", CERBY_USE)
    assert results(rows) == ["blocked_by_policy", "blocked_by_policy"]
    assert findings(rows) == {"role_missing"}
    assert exit_code(rows, "high") == 1


def test_an_edit_of_a_protected_key_has_before_and_after(scenarios: Scenarios) -> None:
    """A disabled key is broken, and the edit is a critical finding with the previous state."""
    rows = scenarios.check("edited vault", "cerby", CERBY_USE)
    assert results(rows) == ["broken", "accessible"]
    [edit] = [row for row in rows if row["check_name"] == "protected_key_edited"]
    assert (edit["severity"], edit["evidence"]) == ("critical", "before: Enabled\nafter: Disabled")
