"""`make demo` and its results: the report in a browser, SQL queries, `kmsledger diff`, and the mail."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from reports.html.query_runner import Source
from reports.mart.connection import connect
from tests import command
from tests.reports.situation_organization import broken_rules

pytestmark = pytest.mark.deep

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """The output and the directory of the demo."""

    output: str
    directory: Path

    def run(self, *arguments: str) -> str:
        """Run a command on the demo ledger and return its output."""
        done = command.run(*arguments, "--config", str(self.directory / "kmsledger.yaml"), env=os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Query the mart."""
        rows: list[dict[str, Any]] = json.loads(self.run("sql", query, "--format", "json"))
        return rows


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run in an empty directory."""
    directory = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Demo(done.stdout, directory / "demo-output")


@pytest.fixture(scope="module")
def page(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the report, rendered by Chromium without network access."""
    if os.environ.get("KMSLEDGER_NO_BROWSER") == "1":
        pytest.skip("KMSLEDGER_NO_BROWSER=1")
    profile = tmp_path_factory.mktemp("profile")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--no-first-run", f"--user-data-dir={profile}", "--proxy-server=127.0.0.1:9", "--dump-dom"]
    report = demo.directory / "reports" / "kmsledger-overview.html"
    done = subprocess.run(
        ["chromium", *options, report.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    return re.sub(r"\s+", " ", re.sub(r"<wbr>|<[^>]+>", "", done.stdout))


def messages_by_type(demo: Demo) -> dict[str, str]:
    """The messages of the changes in the second run, by event type."""
    # The AWS managed key of the secret is created together with its alias, which is another change.
    not_managed_alias = "message NOT LIKE 'Alias alias/aws/%'"
    rows = demo.sql(f"SELECT event_type, message FROM changes WHERE run_id = 2 AND {not_managed_alias}")
    return {row["event_type"]: row["message"] for row in rows}


def test_the_mart_has_a_message_for_each_change(demo: Demo) -> None:
    """All eight changes have a message: deletion, opened policy, moved alias, re-encrypted secret, removed tag, vendor keys."""
    messages = messages_by_type(demo)
    assert "was scheduled for deletion on " in messages["deletion_scheduled"]
    assert "was opened to account 999988887777" in messages["policy_opened"]
    assert "moved from key" in messages["alias_moved"]
    assert messages["rekeyed"].startswith("Secret payments/acquirer now uses ")
    assert messages["tag_removed"].startswith("Tag DataTier=database was removed from key ")
    assert "alias/checkmarx-reports" in messages["policy_changed"]
    assert "is now in state Disabled" in messages["key_state"]
    assert messages["key_gone"].endswith(" no longer exists.")


def test_the_report_prints_on_four_pages(demo: Demo, tmp_path: Path) -> None:
    """The overview of the demo organization is at most four sheets of paper."""
    if os.environ.get("KMSLEDGER_NO_BROWSER") == "1":
        pytest.skip("KMSLEDGER_NO_BROWSER=1")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--proxy-server=127.0.0.1:9"]
    report, pdf = demo.directory / "reports" / "kmsledger-overview.html", tmp_path / "overview.pdf"
    command = ["chromium", *options, "--virtual-time-budget=3000", f"--print-to-pdf={pdf}", report.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 4


def test_the_report_shows_the_changes_without_network(demo: Demo, page: str) -> None:
    """Chromium renders every change without network access."""
    for sentence in messages_by_type(demo).values():
        assert sentence in page


def test_the_report_shows_vendor_default_key_and_gaps(page: str) -> None:
    """The report shows the key shared with a vendor, the secret with aws/secretsmanager, and the unsupported operation."""
    assert "754581900792" in page
    assert "alias/aws/secretsmanager" in page
    assert "elasticache:DescribeServerlessCaches" in page
    assert "the endpoint does not support the operation" in page


def test_the_compliance_report_is_written(demo: Demo) -> None:
    """The run also writes the compliance report: each framework in its current version, older ones by name."""
    text = (demo.directory / "reports" / "kmsledger-compliance.html").read_text()
    for row in demo.sql("SELECT framework FROM frameworks"):
        assert f'id="f-{row["framework"]}"' in text or f"<code>{row['framework']}</code>" in text
    assert 'id="f-cis-aws-7.0.0"' in text
    assert ">Failed</span>" in text
    assert ">Unknown</span>" in text


def test_diff_prints_the_same_messages(demo: Demo) -> None:
    """`kmsledger diff` prints the messages of the changes."""
    printed = re.sub(r"\s+", " ", demo.run("diff"))
    for sentence in messages_by_type(demo).values():
        assert sentence.split(" in northwind")[0].rstrip(".") in printed


def mail_of(demo: Demo) -> EmailMessage:
    (kept,) = (demo.directory / "mail").glob("*.eml")
    message = email.message_from_bytes(kept.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_one_mail_is_sent_with_the_report(demo: Demo) -> None:
    """There is one message, with the report attached; its subject says what matters."""
    message = mail_of(demo)
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "kmsledger-overview-run2.html"
    assert "2 keys will be deleted within 7 days · " in message["Subject"]


def test_each_cause_is_named_once(demo: Demo) -> None:
    """A key that will be deleted is one situation with all that depends on it, and one entry of the mail's ten."""
    with connect(demo.directory / "kmsledger.duckdb") as mart:
        assert broken_rules(mart) == []
    [archive] = demo.sql(
        "SELECT affected, parties, len(rules) AS rules FROM situations WHERE key_alias = 'alias/scan-archive'"
    )
    assert archive == {"affected": 3, "parties": ["Checkmarx"], "rules": 6}
    body = mail_of(demo).get_body(("plain",))
    assert body is not None
    text, _, rest = body.get_content().partition("New findings")
    assert text.count("* [") == 10
    assert text.count("alias/scan-archive") == 1
    assert "alias/scan-archive" not in rest


def test_the_report_counts_the_resolved_findings(demo: Demo) -> None:
    """The status changes of the run include every resolved finding, in one query with those that began to fail.

    DuckDB's optimizer of common subplans loses rows of this UNION ALL (its issues 24624, 25170 and 25819).
    """
    with connect(demo.directory / "kmsledger.duckdb") as mart:
        [(at, resolved)] = mart.execute(
            "SELECT resolved_at, count(*) FROM finding_lifecycle "
            "WHERE resolved_at = (SELECT max(started_at) FROM runs) GROUP BY ALL"
        ).fetchall()
        rows = Source(mart).table("status_changes", at=at)
    assert sum(row["findings"] for row in rows if row["status_change"] == "resolved") == resolved


def test_the_output_lists_the_results(demo: Demo) -> None:
    """The last lines list existing files and three suggestions."""
    named = re.findall(r"^  \S+ +(/\S+)", demo.output, flags=re.MULTILINE)
    assert len(named) == 4
    assert all(Path(path).exists() for path in named)
    assert "  3. " in demo.output


VENDOR_KEYS = {  # results by profile and key alias, without replicas that have no alias
    "checkmarx-one": {
        "checkmarx-one": "accessible",
        "checkmarx-staging": "blocked_by_policy",
        "checkmarx-reports": "broken",
        "checkmarx-trial": "broken",
        "legacy-scans": "broken",
        "scan-archive": "broken",
        "checkmarx-wide": "over_shared",
        "checkmarx-grants": "over_shared",
        "checkmarx-narrow": "unknown",
        "checkmarx-worldwide": "accessible",
        "scanner-cache": "accessible",
    },
    "cerby": {"cerby-vault": "accessible"},
    "cerby-old": {"cerby-vault-old": "over_shared"},
    "cerby-lonely": {"cerby-vault-lonely": "blocked_by_policy"},
    "cerby-orphan": {"cerby-vault-orphan": "blocked_by_policy"},
    "cerby-emea": {"cerby-vault-emea": "broken"},
    "plerion": {
        "warehouse": "accessible",
        "reporting": "accessible",
        "appliance-own": "accessible",
        "clinical-trials": "denied_by_tag",
        "clinical-archive": "denied_by_tag",
        "vault-of-data": "blocked_by_policy",
        "appliance-remote": "blocked_by_policy",
        "researchers-only": "unknown",
    },
    "plerion-platform": {
        "scan-selected": "accessible",
        "scan-selected-lower": "accessible",
        "scan-misspelled": "not_selected",
        "scan-undelegated": "blocked_by_policy",
        "scan-by-statement": "over_shared",
        "tables": "not_selected",
    },
    "plerion-across": {"appliance-across": "accessible", "warehouse": "blocked_by_policy", "reporting": "not_selected"},
}
VENDOR_FINDINGS = {
    "checkmarx-one": {"multi_region", "region", "alias_moved"},
    "cerby": set(),
    "cerby-old": {
        *("multi_region", "key_spec", "external_id_missing", "trust_too_wide"),
        *("role_actions_beyond", "role_resources_beyond"),
    },
    "cerby-lonely": {"replica_missing", "role_actions_missing"},
    "cerby-orphan": {"role_missing"},
    "cerby-emea": {"protected_key_edited"},
}


def test_every_vendor_scenario_has_its_result(demo: Demo) -> None:
    """Each case of the vendors' documentation has the expected result, and other deviations are findings."""
    rows = demo.sql("SELECT profile, subject_type, check_name, key_alias, result FROM vendor_checks")
    for profile, keys in VENDOR_KEYS.items():
        messages = {
            row["key_alias"]: row["result"]
            for row in rows
            if row["profile"] == profile and row["subject_type"] == "key"
        }
        assert {alias: messages[f"alias/{alias}"] for alias in keys} == keys
    for profile, expected in VENDOR_FINDINGS.items():
        findings = [row for row in rows if row["profile"] == profile and row["subject_type"] == "finding"]
        assert {row["check_name"] for row in findings if row["result"] != "unknown"} == expected


def test_the_report_shows_vendor_results(page: str) -> None:
    """The vendor section has the unshared key with its reason, and the days until the deletion of a key."""
    assert "The key stopped being shared with account 754581900792" in page
    assert "in 7 days" in page
    assert "Grant PlerionApplianceRole access to decrypt" in page
