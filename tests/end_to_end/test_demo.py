"""`make demo` as a stranger runs it, and what they find when it is done: in the browser, in SQL, in words, in the mail."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo import second_run_changes
from tests import command
from tests.end_to_end.conftest import House

ROOT = Path(__file__).parents[2]
RECIPIENT = "demo@northwind.example"


@dataclass(frozen=True)
class Demo:
    """What the demo printed and left behind."""

    output: str
    directory: Path

    def ask(self, *arguments: str) -> str:
        """What a command answers about the demo's ledger."""
        done = command.run(*arguments, "--config", str(self.directory / "kmsledger.yaml"), env=os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of the mart."""
        rows: list[dict[str, Any]] = json.loads(self.ask("sql", query, "--format", "json"))
        return rows


@pytest.fixture(scope="module")
def second_run(crawled: House, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """What the demo does, from its first crawl on: the changes, and then the unattended run."""
    house = crawled.copy(tmp_path_factory.mktemp("second-run") / "house")
    house.change(mail={"recipients": [RECIPIENT]})
    second_run_changes.change(house.aws, house.world)
    done = house.run("nightly")
    assert done.returncode == 3, done.stderr
    (house.directory / "mail").mkdir()
    for number, message in enumerate(house.mail.messages):
        if message.recipients == (RECIPIENT,):
            (house.directory / "mail" / f"{number}.eml").write_bytes(message.content)
    return Demo(done.stdout, house.directory)


@pytest.fixture(scope="module", params=["second_run", pytest.param("make_demo", marks=pytest.mark.deep)])
def demo(request: pytest.FixtureRequest) -> Demo:
    """The two runs of the demo: made here, and by `make demo` under `make test-deep`."""
    made: Demo = request.getfixturevalue(request.param)
    return made


@pytest.fixture(scope="module")
def make_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run to its end in an empty directory."""
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
    """The report as text, after Chromium has opened it with no way to any network."""
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


def sentences(demo: Demo) -> dict[str, str]:
    """The overnight changes by kind, as the mart words them."""
    # The secret's new key is made with its alias, which is a change too.
    own = "sentence NOT LIKE 'Alias alias/aws/%'"
    rows = demo.sql(f"SELECT event_type, message FROM changes WHERE run_id = 2 AND {own}")
    return {row["kind"]: row["sentence"] for row in rows}


def test_the_eight_overnight_changes_are_told_in_words(demo: Demo) -> None:
    """The mart has a sentence for each: deletion, opened policy, moved alias, re-keyed secret, removed tag, and for vendors'."""
    told = sentences(demo)
    assert "was scheduled for deletion on " in told["deletion_scheduled"]
    assert "was opened to account 999988887777" in told["policy_opened"]
    assert "moved from key" in told["alias_moved"]
    assert told["rekeyed"].startswith("Secret payments/acquirer now uses ")
    assert told["tag_removed"].startswith("Tag DataTier=database was removed from key ")
    assert "alias/checkmarx-reports" in told["policy_changed"]
    assert "is now in state Disabled" in told["key_state"]
    assert told["key_gone"].endswith(" no longer exists.")


def test_the_report_shows_them_in_a_browser_without_network(demo: Demo, page: str) -> None:
    """Chromium shows every one of the changes."""
    for sentence in sentences(demo).values():
        assert sentence in page


def test_the_report_shows_vendor_default_key_and_gaps(page: str) -> None:
    """The key shared with a vendor, the secret under aws/secretsmanager, and what the endpoint does not offer as a gap."""
    assert "754581900792" in page
    assert "alias/aws/secretsmanager" in page
    assert "kms:DescribeCustomKeyStores" in page
    assert "the endpoint does not support the operation" in page


def test_the_report_for_auditors_is_there_as_well(demo: Demo) -> None:
    """The night writes it beside the other: every framework, with controls that failed and such that are not fully known."""
    text = (demo.directory / "reports" / "kmsledger-compliance.html").read_text()
    for row in demo.sql("SELECT framework FROM frameworks"):
        assert f'id="f-{row["framework"]}"' in text
    assert ">Failed</span>" in text
    assert ">Not fully known</span>" in text


def test_diff_tells_the_night_in_the_same_words(demo: Demo) -> None:
    """`kmsledger diff` has the sentences of the night."""
    printed = re.sub(r"\s+", " ", demo.ask("diff"))
    for sentence in sentences(demo).values():
        assert sentence.split(" in northwind")[0].rstrip(".") in printed


def test_the_mail_is_there_once_with_the_report(demo: Demo) -> None:
    """One message, kept as a file, with the report attached."""
    (kept,) = (demo.directory / "mail").glob("*.eml")
    message = email.message_from_bytes(kept.read_bytes(), policy=email.policy.default)
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "kmsledger-overview-run2.html"


@pytest.mark.deep
def test_it_says_where_everything_is(make_demo: Demo) -> None:
    """The last lines name files that exist, and three things to try."""
    named = re.findall(r"^  \S+ +(/\S+)", make_demo.output, flags=re.MULTILINE)
    assert len(named) == 4
    assert all(Path(path).exists() for path in named)
    assert "  3. " in make_demo.output


VENDOR_KEYS = {  # the verdicts on keys by profile and alias; a replica without an alias is left out
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


def test_every_vendor_scenario_has_its_verdict(demo: Demo) -> None:
    """Each case of the vendors' documents is told by its verdict, and what is beside the keys as a finding."""
    rows = demo.sql("SELECT profile, event_type, check_name, key_alias, verdict FROM vendor_checks")
    for profile, keys in VENDOR_KEYS.items():
        told = {row["key_alias"]: row["verdict"] for row in rows if row["profile"] == profile and row["kind"] == "key"}
        assert {alias: told[f"alias/{alias}"] for alias in keys} == keys
    for profile, expected in VENDOR_FINDINGS.items():
        mine = [row for row in rows if row["profile"] == profile and row["kind"] == "finding"]
        assert {row["about"] for row in mine if row["verdict"] != "unknown"} == expected


def test_the_report_tells_vendors_verdicts(page: str) -> None:
    """The section has the un-shared key with its reason, and the countdown of the one that is going."""
    assert "The key stopped being shared with account 754581900792" in page
    assert "in 7 days" in page
    assert "Grant PlerionApplianceRole access to decrypt" in page
