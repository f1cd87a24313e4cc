"""A run with failures: facts that it could not read are kept and reported as stale, and the next run reports no changes.

Three runs of an organization without changes. In the second run, an account denies ListKeys in a region, the
configuration excludes a region, one account is suspended, one has left the organization, and one has disabled a region.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Denial, Faults
from benchmarks.fake_aws.presets import preset
from models.store.engine import connect
from models.tables import versioned_tables
from models.tables.organization import Account, AccountRegion
from models.tables.runs import Gap
from tests import command
from tests.reports.html.page import read
from tests.reports.mart_schema import offer_schema

pytestmark = pytest.mark.deep

RULES = {path.stem for path in (Path(__file__).parents[2] / "reports" / "rules" / "shipped").glob("*.sql")}
OPT_IN = "af-south-1"
DENIED, EXCLUDED = "eu-west-1", "eu-central-1"
ANALYSIS_TABLE = "key_analysis"
"""Derived from other facts and from the accounts of the organization."""
COVERAGE_TABLES = {Account.__tablename__, AccountRegion.__tablename__, Gap.__tablename__, "finding", "rule_result"}
"""Tables about the coverage of a run; all others contain facts about resources."""


@dataclass
class FailedRunResult:
    """The results of the three runs."""

    directory: Path
    accounts: dict[str, str]
    """Account ids by their failure in the second run."""
    exit_codes: list[int]
    reports: list[str]
    """The overview report of each run, as text without markup."""

    def sql(self, query: str, run_id: int) -> list[dict[str, Any]]:
        """Query the mart as of a run."""
        done = _run(
            self.directory, {}, "sql", query, "--format", "json", "--mart", f"run-{run_id}.duckdb", "--limit", "100000"
        )
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def of(self, trouble: str, region: str | None = None) -> str:
        """A SQL condition for the account, and region, with a failure."""
        account = f"account_id = '{self.accounts[trouble]}'"
        return account if region is None else f"{account} AND region = '{region}'"


def _run(directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return command.run(*arguments, "--config", "settings.yaml", env=env, cwd=directory)


def _settings(directory: Path, fake: FakeAws, *, excluded: str = "") -> None:
    (directory / "settings.yaml").write_text(
        "database: sqlite:///ledger.db\n"
        f"aws: {{endpoint_url: {fake.url}}}\ncrawl: {{quota_share_percent: 100}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n"
        f"regions: {{exclude: [{excluded}]}}\n"
        "report: {list_limit: 100000}\n"
        # Findings are not compared.
        f"rules: {{disable: {sorted(RULES - {'key-rotation'})}}}\n",
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> FailedRunResult:
    """The three runs, each with its report."""
    directory = tmp_path_factory.mktemp("runs")
    parameters = preset("tiny", seed=3, accounts=6, adversarial=False, keys_per_account_region=3, resources=0.1)
    codes: list[int] = []
    reports: list[str] = []
    for name in ("kmsledger.duckdb", "run-1.duckdb", "run-2.duckdb", "run-3.duckdb"):
        offer_schema(directory / name)
    with FakeAws(parameters) as fake:
        accounts = fake.world.accounts
        _, denied, suspended, unaffected, opted_out, left = accounts
        # Accounts are looked up by position, so only the last one can be missing.
        accounts[4] = replace(opted_out, opt_ins=(OPT_IN,), active=(*opted_out.active, OPT_IN))
        originals = list(accounts)
        changed_accounts = [
            *originals[:2],
            replace(suspended, state="SUSPENDED"),
            unaffected,
            replace(originals[4], opt_ins=()),
        ]
        for run_id in (1, 2, 3):
            with_failures = run_id == 2
            accounts[:] = changed_accounts if with_failures else originals
            denials = (Denial(operation="kms:ListKeys", account=denied.id, region=DENIED),) if with_failures else ()
            fake.control.faults(Faults(denials=denials))
            _settings(directory, fake, excluded=EXCLUDED if with_failures else "")
            crawled = _run(directory, fake.environment(), "crawl")
            assert "Traceback" not in crawled.stderr, crawled.stderr
            codes.append(crawled.returncode)
            written = _run(directory, {}, "report", "overview", "--output", f"run-{run_id}")
            assert written.returncode == 0, written.stderr
            reports.append(_text(directory / f"run-{run_id}" / "kmsledger-overview.html"))
        for run_id in (1, 2, 3):
            built = _run(
                directory, {}, "mart", "--as-of", str(run_id), "--output", str(directory / f"run-{run_id}.duckdb")
            )
            assert built.returncode == 0, built.stderr
        troubles = {
            "denied": denied.id,
            "suspended": suspended.id,
            "opted out": opted_out.id,
            "left": left.id,
            "none": unaffected.id,
        }
    return FailedRunResult(directory, troubles, codes, reports)


def _text(page: Path) -> str:
    """The text of a report, and all keys with their age and all gaps."""
    html = page.read_text(encoding="utf-8")
    node = read(html)
    keys = " / ".join(f"{row['key_arn']} {row['stale'] or 'current'}" for row in node.data("keys"))
    gaps = " / ".join(f"{row['region']} {row['action']} {row['subject'] or row['whole']}" for row in node.data("gaps"))
    return " ".join(re.sub(r"<[^>]+>", " ", html).split()) + keys + gaps


def _keys(results: FailedRunResult, scope_condition: str, run_id: int) -> set[tuple[str, str]]:
    """Key ARN and freshness in a scope, without keys that have permanent denials."""
    rows = results.sql(
        f"SELECT key_arn, freshness FROM keys WHERE {scope_condition} AND len(denied_actions) = 0", run_id
    )
    return {(row["key_arn"], row["freshness"]) for row in rows}


def _outcomes(results: FailedRunResult, scope_condition: str) -> list[dict[str, Any]]:
    """Coverage of the second run, without keys that have permanent denials."""
    columns = "region, outcome, action, cause_text, consecutive_runs"
    query = f"SELECT {columns} FROM coverage WHERE {scope_condition} AND coalesce(subject, '') = ''"
    return results.sql(f"{query} ORDER BY region, outcome", 2)


def _assert_stale_for_one_run(results: FailedRunResult, scope_condition: str) -> None:
    """Assert that every key exists in all three runs: current, stale, current."""
    first, second, third = (_keys(results, scope_condition, run_id) for run_id in (1, 2, 3))
    assert len(first) > 3
    assert {known for _, known in first} == {"current"}
    assert second == {(arn, "stale") for arn, _ in first}
    assert third == first
    (arn, _), *_ = sorted(first)
    key_id = arn.rpartition("/")[2]
    assert re.search(rf"{key_id}[^/]*? last known, 1 run old", results.reports[1])
    assert not re.search(rf"{key_id}[^/]*? last known", results.reports[2])


def test_a_run_with_gaps_has_exit_code_3(results: FailedRunResult) -> None:
    """Some keys of this organization are never readable, so each run is partial and none failed."""
    assert results.exit_codes == [3, 3, 3]


def test_facts_have_no_new_version_after_the_first_run(results: FailedRunResult) -> None:
    """Facts that a run could not read keep their version: no version was closed or inserted."""
    engine = connect(f"sqlite:///{results.directory / 'ledger.db'}", must_exist=True)
    compared = 0
    with engine.connect() as connection:
        for name, model in versioned_tables().items():
            if name in {*COVERAGE_TABLES, ANALYSIS_TABLE}:
                continue
            table = model.table()
            intervals = connection.execute(select(table.c.valid_from, table.c.valid_to)).all()
            assert {tuple(interval) for interval in intervals} <= {(1, None)}, name
            compared += len(intervals)
    engine.dispose()
    assert compared > 1000


def test_analyses_change_only_for_the_account_that_left_the_organization(results: FailedRunResult) -> None:
    """Access is analyzed again only for the account that was outside the organization for one run; then it is as before."""
    engine = connect(f"sqlite:///{results.directory / 'ledger.db'}", must_exist=True)
    table = versioned_tables()[ANALYSIS_TABLE].table()
    versions_by_key: dict[str, list[tuple[int, int | None, bytes]]] = {}
    with engine.connect() as connection:
        columns = (table.c.key_arn, table.c.valid_from, table.c.valid_to, table.c.analysis_id)
        for arn, *version in connection.execute(select(*columns).order_by(table.c.key_arn, table.c.valid_from)):
            versions_by_key.setdefault(arn, []).append(tuple(version))
    engine.dispose()
    changed = {
        arn: versions
        for arn, versions in versions_by_key.items()
        if [version[:2] for version in versions] != [(1, None)]
    }
    assert {arn.split(":")[4] for arn in changed} == {results.accounts["left"]}
    assert len(changed) < len(versions_by_key)
    for versions in changed.values():
        assert [version[:2] for version in versions] == [(1, 2), (2, 3), (3, None)]
        assert versions[0][2] == versions[2][2] != versions[1][2]


def test_list_keys_denied_for_one_run(results: FailedRunResult) -> None:
    """The keys of the region are stale by one run, because the listing is a gap; in the next run they are current."""
    scope_condition = results.of("denied", DENIED)
    _assert_stale_for_one_run(results, scope_condition)
    gap, scope = _outcomes(results, scope_condition)
    assert (gap["outcome"], gap["action"], gap["consecutive_runs"]) == ("gap", "kms:ListKeys", 1)
    assert (gap["cause_text"], scope["outcome"]) == ("the crawler's role lacks the permission", "partial")
    # Permanent denials are the same in the first and third run.
    troubles = f"SELECT operation, subject, outcome FROM coverage WHERE {scope_condition} AND outcome <> 'complete' ORDER BY ALL"
    assert results.sql(troubles, 3) == results.sql(troubles, 1)
    assert (
        results.sql(f"SELECT * FROM coverage WHERE {scope_condition} AND outcome <> 'complete' AND since_run > 1", 3)
        == []
    )
    assert f"{DENIED} kms:ListKeys the whole listing" in results.reports[1]
    assert re.search(rf"kms:ListKeys in sandbox-1 \(\d+\), {DENIED}: 1 response missing", results.reports[1])


def test_a_region_excluded_for_one_run(results: FailedRunResult) -> None:
    """The keys of the region are stale, and coverage gives the configuration as the cause."""
    scope_condition = results.of("denied", EXCLUDED)
    _assert_stale_for_one_run(results, scope_condition)
    (scope,) = _outcomes(results, scope_condition)
    assert (scope["outcome"], scope["cause_text"], scope["consecutive_runs"]) == (
        "excluded",
        "excluded by the configuration",
        1,
    )
    assert "excluded by configuration" in results.reports[1]


def test_a_region_disabled_for_one_run(results: FailedRunResult) -> None:
    """The keys of the region are stale, and coverage says that the region is not enabled."""
    scope_condition = results.of("opted out", OPT_IN)
    _assert_stale_for_one_run(results, scope_condition)
    (scope,) = _outcomes(results, scope_condition)
    assert (scope["outcome"], scope["consecutive_runs"]) == ("disabled", 1)
    assert scope["cause_text"] == "the region is not enabled in the account"
    assert "region not enabled" in results.reports[1]


def test_an_account_suspended_for_one_run(results: FailedRunResult) -> None:
    """The keys of the account are stale in all regions, and coverage says that it is suspended."""
    scope_condition = results.of("suspended")
    _assert_stale_for_one_run(results, scope_condition)
    (scope,) = _outcomes(results, scope_condition)
    assert (scope["region"], scope["outcome"], scope["cause_text"]) == ("*", "suspended", "state SUSPENDED")
    assert "account suspended or closed: state SUSPENDED" in results.reports[1]


def test_an_account_outside_the_organization_for_one_run(results: FailedRunResult) -> None:
    """The keys of the account are stale in all regions, and coverage says that it left."""
    scope_condition = results.of("left")
    _assert_stale_for_one_run(results, scope_condition)
    scopes = _outcomes(results, scope_condition)
    assert [(scope["region"], scope["outcome"]) for scope in scopes] == [("*", "left")]
    assert "account left the organization" in results.reports[1]


def test_unaffected_scopes_are_current(results: FailedRunResult) -> None:
    """Scopes without a failure are current in the second run as well."""
    for region in ("us-east-1", DENIED):
        first, second = (_keys(results, results.of("none", region), run_id) for run_id in (1, 2))
        assert first == second
        assert {known for _, known in second} == {"current"}


def test_only_the_accounts_changed(results: FailedRunResult) -> None:
    """No run reports a change of a key or resource; the changes of the accounts are reported."""
    rows = results.sql("SELECT run_id, account_id, event_type FROM changes ORDER BY run_id, event_type", 3)
    suspended, left = results.accounts["suspended"], results.accounts["left"]
    assert {(row["run_id"], row["account_id"], row["event_type"]) for row in rows} == {
        (2, suspended, "account_state"),
        (2, left, "account_left"),
        (3, suspended, "account_state"),
        (3, left, "account_state"),
    }
