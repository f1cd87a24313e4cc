"""`kmsledger crawl --account` and `--region`: full, limited and full again; findings, reports, gate and health."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from tests.end_to_end.conftest import FEW_RULES, RULES, Installation
from tests.reports.mart.test_incremental import everything
from tests.reports.mart_schema import offer_schema

pytestmark = pytest.mark.deep  # several marts

FINDINGS = """
SELECT rule_id, resource_arn, account_id, status, severity, reason, first_failed, since FROM findings
WHERE account_id <> $$ACCOUNT$$ ORDER BY ALL
"""
KEYS = """
SELECT key_arn, state, rotation_status, policy_known, freshness, denied_actions, last_seen_run, dependent_resources
FROM keys WHERE account_id <> $$ACCOUNT$$ ORDER BY ALL
"""


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    parameters = preset(
        "tiny", seed=4, accounts=3, adversarial=False, key_denials=False, keys_per_account_region=3, resources=0.1
    )
    with FakeAws(parameters) as endpoint:
        yield endpoint


@pytest.fixture
def installation(aws: FakeAws, tmp_path: Path) -> Installation:
    offer_schema(tmp_path / "kmsledger.duckdb")
    settings = tmp_path / "kmsledger.yaml"
    few = FEW_RULES | {"region-not-read", "account-not-crawled", "operation-denied"}
    values = {
        "database": "sqlite:///ledger.db",
        "aws": {"endpoint_url": aws.url},
        "crawl": {"quota_share_percent": 100, "last_use": {"enabled": False}},
        "role": {"external_id": aws.world.parameters.external_id},
        "rules": {"disable": sorted({path.stem for path in RULES.glob("*.sql")} - few)},
        "report": {"directory": "reports", "mart": "kmsledger.duckdb"},
    }
    settings.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Installation(None, tmp_path, settings, {**os.environ, **aws.environment()})  # type: ignore[arg-type]  # no mail


def run(installation: Installation, code: int, *arguments: str) -> str:
    """Run a command and return its output; the exit code must be this one."""
    done = installation.run(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def of_others(installation: Installation, account: str, *, as_of: int | None = None) -> list[list[dict[str, Any]]]:
    """The findings and keys of all accounts but one."""
    options = () if as_of is None else ("--as-of", str(as_of))
    answers = []
    for query in (FINDINGS, KEYS):
        done = installation.run("sql", query.replace("$$ACCOUNT$$", f"'{account}'"), "--format", "json", *options)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert all(answers)
    return answers


def test_everything_else_stays_as_the_full_run_read_it(aws: FakeAws, installation: Installation) -> None:
    """Full, limited, full: others change only in the full runs, and the reports say what was not part of the limited one."""
    account, other = aws.world.accounts[1].id, aws.world.accounts[2].id
    run(installation, 0, "crawl")
    before = of_others(installation, account)
    aws.control.set_day(40)
    own = installation.sql(f"SELECT * FROM keys WHERE account_id = '{account}' ORDER BY key_arn")
    printed = run(installation, 0, "crawl", "--account", account, "--min-coverage", "100%")
    assert "run 2 complete: 1 accounts" in printed
    assert "findings: " in printed
    assert "next: `kmsledger findings --severity " in printed
    assert f"limited to account {account}: everything else is as earlier runs read it" in printed
    assert of_others(installation, account) == before
    assert of_others(installation, account, as_of=2) == before
    assert installation.sql(f"SELECT * FROM keys WHERE account_id = '{account}' ORDER BY key_arn") != own
    scopes = "SELECT DISTINCT account_id, outcome, read_run_id FROM coverage WHERE operation IS NULL AND outcome <> 'disabled'"
    assert {tuple(row.values()) for row in installation.sql(scopes)} == {
        (aws.world.management.id, "complete", 1),
        (account, "complete", 2),
        (other, "complete", 1),
    }
    (limited,) = [line for line in run(installation, 0, "runs").splitlines() if line.startswith("2 ")]
    assert limited.endswith(f"limited to account {account}")
    assert "100 % of 4" in limited
    assert f"It was limited to account {account}" in run(installation, 0, "coverage")
    assert "ok: run 1 ended" in (health := run(installation, 0, "health"))
    assert "run 2 ended since then" in health
    run(installation, 0, "report", "overview")
    page = (installation.directory / "reports" / "kmsledger-overview.html").read_text(encoding="utf-8")
    assert f"The run was limited to account {account}: 8 account-regions were not part of it" in page

    rebuilt = installation.directory / "rebuilt.duckdb"
    run(installation, 0, "mart", "--output", str(rebuilt))
    marts = [everything(path) for path in (installation.directory / "kmsledger.duckdb", rebuilt)]
    assert {name for name in marts[0] if marts[0][name] != marts[1][name]} == set()

    run(installation, 0, "crawl", "--region", "eu-west-1", "--region", "global")
    assert of_others(installation, account, as_of=2) == before
    assert run(installation, 0, "runs").splitlines()[1].endswith("limited to regions eu-west-1, global")
    run(installation, 0, "crawl")
    assert of_others(installation, account) != before
    assert of_others(installation, account, as_of=1) == before
    assert "ok: run 4 ended" in run(installation, 0, "health")


def test_gaps_of_others_affect_health_and_not_the_limited_run(aws: FakeAws, installation: Installation) -> None:
    """The gate of a limited run judges its own account; that of health judges everything, and streaks count only own runs."""
    account, refused = aws.world.accounts[1].id, aws.world.accounts[2].id
    aws.control.faults(role_gone_after={refused: 0})
    run(installation, 3, "crawl")
    streak = f"SELECT consecutive_runs, read_run_id FROM incomplete_account_regions WHERE account_id = '{refused}'"
    before = of_others(installation, account)
    for _ in range(2):
        printed = run(installation, 0, "crawl", "--account", account, "--min-coverage", "100%")
        assert "could not be entered" not in printed
        assert of_others(installation, account) == before
        assert installation.sql(streak) == [{"consecutive_runs": 1, "read_run_id": 1}]
        assert "incomplete: run 1 ended" in run(installation, 3, "health")
    assert run(installation, 3, "coverage").count("could not") == 0
    run(installation, 3, "crawl", "--account", refused)
    assert installation.sql(streak) == [{"consecutive_runs": 2, "read_run_id": 4}]
    aws.control.faults()
    run(installation, 0, "crawl", "--account", refused)
    assert installation.sql(streak) == []
    assert "ok: run 1 ended" in run(installation, 0, "health")


def test_usage_errors(installation: Installation) -> None:
    """What the organization does not have is named, with exit code 2, and no run is recorded; so is a wrong combination."""
    assert "the organization has no such account" in run(installation, 2, "crawl", "--account", "999999999999")
    assert "AWS has no such region" in run(installation, 2, "crawl", "--region", "eu-west-9")
    assert "is not an account ID of 12 digits" in run(installation, 2, "crawl", "--account", "12")
    assert "omit --account and --region" in run(installation, 2, "crawl", "--resume", "--region", "global")
    assert "run 1 complete" in run(installation, 0, "crawl", "--region", "eu-west-1")
    assert "no run has ended yet" in run(installation, 4, "health")
