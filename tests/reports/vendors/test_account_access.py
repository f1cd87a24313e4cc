"""Tests of a vendor's account that key policies name (Checkmarx One): access, properties, failures with their dates."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from tests.reports.conftest import SHOP
from tests.reports.ledger_builder import FIRST_RUN
from tests.reports.vendors.organization import (
    CHECKMARX,
    DUE,
    OHIO,
    ONE_KEY,
    POLICIES,
    Scenarios,
    findings,
    key_arn,
    results,
)

SECOND_RUN = (FIRST_RUN + dt.timedelta(days=1)).replace(tzinfo=None)


@pytest.mark.parametrize("case", POLICIES)
def test_an_account_and_a_key_policy(scenarios: Scenarios, case: str) -> None:
    """The check covers use, grants limited to AWS resources, excess access and other parties; unread policies are unknown."""
    _, result, text = POLICIES[case]
    [row] = [row for row in scenarios.check(f"policy {case}", "checkmarx-one", ONE_KEY) if row["subject_type"] == "key"]
    assert (row["result"], text in row["reason"]) == (result, True), row["reason"]
    if result == "blocked_by_policy":
        assert f"arn:aws:iam::{CHECKMARX}:root" in row["statement"]


def test_an_unexpected_condition_is_unknown(scenarios: Scenarios) -> None:
    """A key that is usable only through one service is neither accessible nor blocked."""
    rows = scenarios.check("condition", "checkmarx-one", ONE_KEY)
    assert results(rows) == ["unknown"]
    assert "last known state" not in rows[0]["reason"]


def test_a_key_stops_being_shared(scenarios: Scenarios) -> None:
    """The next run reports the key as broken since that run, with both statements to restore."""
    [row] = [row for row in scenarios.check("unshared", "checkmarx-one", ONE_KEY) if row["subject_type"] == "key"]
    assert row["result"] == "broken"
    assert row["since"] == SECOND_RUN
    statements = json.loads(f"[{row['statement']}]")
    assert [statement["Sid"] for statement in statements] == [
        "Allow use of the key",
        "Allow attachment of persistent resources",
    ]


def test_disabled_pending_and_deleted_keys_have_dates(scenarios: Scenarios) -> None:
    """A disabled key has seven days from the run that first saw it, pending deletion has its date, a deleted key is reported."""
    disabled, pending, deleted = (key_arn(number) for number in (1, 2, 3))
    checks = scenarios.check("three keys", "checkmarx-one", {"keys": [disabled, pending, deleted]})
    rows = {row["key_arn"]: row for row in checks if row["subject_type"] == "key"}
    assert {row["result"] for row in rows.values()} == {"broken"}
    assert rows[disabled]["deadline"] == SECOND_RUN + dt.timedelta(days=7)
    assert "scans is inaccessible-encryption-credentials-recoverable" in rows[disabled]["reason"]
    assert rows[pending]["deadline"] == DUE.replace(tzinfo=None)
    assert rows[deleted]["since"] == SECOND_RUN
    assert "was deleted" in rows[deleted]["reason"]


def test_properties_and_region_are_findings(scenarios: Scenarios) -> None:
    """Wrong properties and a wrong region are findings in addition to the key's result."""
    rows = scenarios.check("properties", "checkmarx-one", {**ONE_KEY, "parameters": {"tenant_region": OHIO}})
    assert findings(rows) == {"multi_region", "origin", "region"}


def test_an_alias_that_moved_while_a_cache_uses_the_old_key(scenarios: Scenarios) -> None:
    """ElastiCache keeps the old key, which is a finding while a cache uses it."""
    rows = scenarios.check("alias moved", "checkmarx-one", {"accounts": [SHOP], "keys": ["alias/cache"]})
    assert [row["key_arn"] for row in rows if row["check_name"] == "alias_moved"] == [key_arn(1)]
    rows = scenarios.check("cache moved", "checkmarx-one", {"accounts": [SHOP], "keys": ["alias/moved"]})
    assert "alias_moved" not in findings(rows)


def test_keys_are_discovered_without_settings(scenarios: Scenarios) -> None:
    """A key policy that names the vendor's account is enough."""
    rows = scenarios.check("policy as documented", "checkmarx-one")
    assert [(row["key_arn"], row["result"]) for row in rows if row["subject_type"] == "key"] == [
        (key_arn(1), "accessible")
    ]
