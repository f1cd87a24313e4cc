"""The views situations and situation_findings: one situation per root cause."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.settings import Settings
from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.loader import load_rules
from tests.hypothesis_profiles import examples
from tests.reports.answers.random_runs import RandomRuns
from tests.reports.ledger_builder import settings_of
from tests.reports.principal_counts import different_counts
from tests.reports.situation_organization import SHOP, broken_rules


def situations(mart: duckdb.DuckDBPyConnection, kind: str) -> dict[str, tuple[object, ...]]:
    """The situations of a kind: severity, number affected, parties and failed findings, by cause."""
    rows = mart.execute("SELECT cause, severity, affected, parties, failed FROM situations WHERE kind = ?", [kind])
    return {row[0]: row[1:] for row in rows.fetchall()}


@pytest.mark.parametrize("name", ["situation_mart", "sample_mart"])
def test_every_severe_finding_is_in_one_situation(name: str, request: pytest.FixtureRequest) -> None:
    """No severe finding is left out or counted twice, no resource is in two situations, and each fact has one severity."""
    path: Path = request.getfixturevalue(name)
    with connect(path) as mart:
        assert broken_rules(mart) == []
        assert len(mart.execute("SELECT situation_id FROM situations").fetchall()) > 5


def test_a_key_stands_for_everything_that_depends_on_it(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """A key that will be deleted, its resources and its vendor are one situation, with the deletion as its deadline."""
    [rules] = situation_reader.execute("SELECT rules FROM situations WHERE key_alias = 'alias/going'").fetchone() or ()
    assert set(rules) >= {
        "database-key-usable", "key-deletion-window-short", "key-pending-deletion", "key-unusable-in-use", "secret-key-usable",
        "vendor-key-usable",
    }  # fmt: skip
    rows = situation_reader.execute(
        "SELECT affected, parties, key_state, account_ids, owners, deadline = deletion_date "
        "FROM situations JOIN keys USING (key_arn) WHERE key_alias = 'alias/going'"
    ).fetchall()
    assert rows == [(4, ["Checkmarx"], "PendingDeletion", [SHOP], ["team shop"], True)]


def test_a_database_that_lost_its_key_sets_the_deadline(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """RDS waits seven days for a key (user guide: inaccessible-encryption-credentials-recoverable); then the data is lost."""
    rows = situation_reader.execute(
        "SELECT s.key_state, s.affected, s.deadline - r.since FROM situations s JOIN resources r ON r.name = 'it''s lost' "
        "WHERE s.key_alias = 'alias/off'"
    ).fetchall()
    assert [(state, affected, age.days) for state, affected, age in rows] == [("Disabled", 2, 7)]


def test_unused_keys_are_one_situation(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """Keys that nothing is known to use are one situation, not one each: applications may replace keys every day."""
    found = situations(situation_reader, "key")
    assert found["unused PendingDeletion"][1] == 3
    [gone] = [row for cause, row in found.items() if "0dead000" in cause]
    assert gone[1] == 2


def test_access_is_grouped_by_party(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """Everyone, an unknown account (through policies and grants) and a vendor with excess access are one situation each."""
    found = situations(situation_reader, "access")
    assert found["Everyone"][:3] == ("critical", 1, ["Everyone"])
    assert found["account 999900001111"][1:3] == (3, ["account 999900001111"])
    assert found["Checkmarx"][:3] == ("high", 1, ["Checkmarx"])


def test_a_vendor_without_access_is_a_situation_of_its_own(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """Missing access is not mixed with excess access, nor with keys that nobody can use."""
    assert situations(situation_reader, "vendor")["Checkmarx"][:3] == ("critical", 1, ["Checkmarx"])


def test_other_causes_are_grouped_by_rule(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """Two unencrypted databases are one situation."""
    assert situations(situation_reader, "rule")["database-encrypted"][:2] == ("high", 2)


def test_missing_data_is_grouped_by_its_reason(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """An unread account, its region and a secret whose key is there have one reason; unknown results are medium."""
    found = situations(situation_reader, "coverage")
    assert found["the role does not exist or does not trust the crawler"][:2] == ("high", 3)
    [hidden] = [row for cause, row in found.items() if "key policy" in cause]
    assert hidden[0] == "medium"


def test_the_view_names_rules_that_exist() -> None:
    """Every severe rule about access, grants, secrets, vendors or coverage has a topic, unless its cause is the rule itself."""
    text = (files("reports.mart") / "views" / "43_situation_findings.sql").read_text(encoding="utf-8")
    named = set(re.findall(r"\('([a-z-]+)', '(?:access|vendor|coverage)', ", text))
    rules = {rule.rule_id: rule for rule in load_rules(Settings())}
    assert named <= set(rules)
    families = {"access", "grants", "secrets", "vendors", "coverage"}
    severe = {name for name, rule in rules.items() if rule.family in families and rule.severity in {"critical", "high"}}
    assert severe - named == {
        "iam-inline-policy-full-kms", "iam-policy-full-kms", "key-lockout", "secret-key-usable", "secret-replication",
        "secret-rotation-overdue",
    }  # fmt: skip


@pytest.mark.deep
@settings(max_examples=examples(fast=2, deep=8))
@given(seed=st.integers(0, 2**32), runs=st.integers(1, 4))
def test_random_organizations(tmp_path_factory: pytest.TempPathFactory, seed: int, runs: int) -> None:
    """The same holds for random keys, states, grants, policies, gaps and unread regions; principals are counted right."""
    folder = tmp_path_factory.mktemp("situations")
    random_runs = RandomRuns(f"sqlite:///{folder / 'ledger.db'}", seed)
    configured = settings_of(
        database=random_runs.world.url,
        report={"mart": folder / "mart.duckdb"},
        vendors={
            "profiles": {
                "checkmarx-one": {"keys": ["alias/one", "alias/two"], "parameters": {"tenant_region": "eu-west-1"}}
            }
        },
    )
    for number in range(runs):
        if number:
            random_runs.apply_changes()
        random_runs.world.crawl()
    refresh(configured)
    with connect(configured.report.mart) as mart:
        assert broken_rules(mart) == []
        assert different_counts(mart) == []
