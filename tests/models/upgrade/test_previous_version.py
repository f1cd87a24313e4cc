"""Settings, ledger and mart of an earlier version work after an upgrade, or a message names the command to run."""

from __future__ import annotations

import gzip
import lzma
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from models import settings
from tests import command

HERE = Path(__file__).parent
MART = HERE / "mart_0009.duckdb.xz"
"""Built by the version of schema 0009 from the ledger in `test_ledger_0007.py`."""
LEDGER = HERE / "ledger_0007.db.gz"
SETTINGS = HERE / "settings_0009.yaml"
"""Every setting of that version with a value; its comments were removed."""
SECRETS = {
    "KMSLEDGER_EXTERNAL_ID": "id-of-the-organization",
    "KMSLEDGER_MAIL_PASSWORD": "secret",
    "KMSLEDGER_WEBHOOK_SECRET": "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==",
    "KMSLEDGER_CHAT_URL": "json://chat.example.org",
}
ANSWERS = [
    "coverage",
    "runs",
    "findings --as-of 2",
    "sql --as-of 2 'SELECT run_id FROM runs'",
    "export parquet --output lake",
    "cookbook coverage-trend",
]
"""Commands that read views or columns which that version did not have."""
OTHER_VERSION = "another version of kmsledger built the mart, which `kmsledger mart` rebuilds"
REBUILD = "the mart lacks views that this version of kmsledger reads: run `kmsledger mart` to rebuild it\n"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """A directory with the files of the earlier version."""
    (tmp_path / "kmsledger.duckdb").write_bytes(lzma.decompress(MART.read_bytes()))
    (tmp_path / "ledger.db").write_bytes(gzip.decompress(LEDGER.read_bytes()))
    text = "database: sqlite:///ledger.db\nreport: {mart: kmsledger.duckdb, directory: reports}\n"
    (tmp_path / "kmsledger.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def run(directory: Path, line: str) -> subprocess.CompletedProcess[str]:
    return command.run(*shlex.split(line), env=os.environ, cwd=directory)


def test_every_setting_is_still_accepted(tmp_path: Path) -> None:
    """The settings file of the earlier version is valid, and its values have the same meaning."""
    shutil.copy(SETTINGS, tmp_path / "kmsledger.yaml")
    loaded = settings.load(tmp_path / "kmsledger.yaml", SECRETS)
    assert loaded.mail is not None
    assert loaded.mail.recipients == ("security@example.org", "audit@example.org")
    assert loaded.role.name == "KmsInventoryReadOnly"
    assert loaded.crawl.empty_region_rescan_days == 7
    assert loaded.webhooks[0].secret.get_secret_value() == SECRETS["KMSLEDGER_WEBHOOK_SECRET"]
    assert loaded.coverage == settings.Settings().coverage


@pytest.mark.parametrize("line", [*ANSWERS, "health", "report"])
def test_a_command_that_needs_a_newer_mart_says_how_to_rebuild_it(previous: Path, line: str) -> None:
    """A command that reads views which the old mart lacks exits with 4 and one sentence that names `kmsledger mart`."""
    done = run(previous, line)
    assert done.returncode == 4, done.stdout + done.stderr
    assert (done.stderr if line != "health" else done.stdout).endswith(REBUILD)


def test_other_queries_work_on_the_old_mart(previous: Path) -> None:
    """What the old mart has can be queried without a rebuild."""
    done = run(previous, "sql --format csv 'SELECT count(*) AS keys FROM keys'")
    assert (done.returncode, done.stdout.split()) == (0, ['"keys"', "13"]), done.stderr
    done = run(previous, "sql 'SELECT new_column FROM keys'")
    assert done.returncode == 2
    assert done.stderr.endswith(f"; {OTHER_VERSION}\n"), done.stderr


@pytest.mark.deep  # a full rebuild of the mart, and the reports
def test_everything_works_after_upgrade_and_rebuild(previous: Path) -> None:
    """After `db upgrade` and `mart`, all commands work on the files of the earlier version."""
    for line in ("db upgrade", "mart", "report", *ANSWERS):
        done = run(previous, line)
        assert done.returncode == (3 if line == "coverage" else 0), line + done.stdout + done.stderr
    assert (previous / "reports" / "kmsledger-overview.html").is_file()
