"""Common failures: one error message, the documented exit code, no traceback, and no loss of saved data."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.store import engine
from tests.end_to_end.conftest import Workspace, narrow

pytestmark = pytest.mark.deep  # the organization of the demo


def assert_error(completed: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert one error message on standard error with these words, the exit code, and no traceback."""
    assert completed.returncode == code, completed.stderr
    assert "Traceback" not in completed.stderr
    (sentence,) = [line for line in completed.stderr.splitlines() if line.startswith("kmsledger: ")]
    for word in words:
        assert word in sentence, sentence


def test_rejected_credentials(empty_account_workspace: Workspace) -> None:
    """Rejected credentials are a usage error with the cause and the setting to check."""
    empty_account_workspace.aws.fault(
        "sts", "GetCallerIdentity", code="InvalidClientTokenId", message="The security token is invalid.", status=403
    )
    assert_error(
        empty_account_workspace.run("crawl"), 2, "rejected the credentials", "InvalidClientTokenId", "aws.profile"
    )


def test_missing_credentials(empty_account_workspace: Workspace, tmp_path: Path) -> None:
    """Without credentials, the message names the setting to use."""
    empty_account_workspace.environment |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    assert_error(empty_account_workspace.run("crawl"), 2, "no AWS credentials were found", "aws.profile")


def test_an_unknown_profile(empty_account_workspace: Workspace) -> None:
    """The message names the unknown profile."""
    empty_account_workspace.change(aws={"profile": "nightly-reader"})
    assert_error(empty_account_workspace.run("crawl"), 2, "nightly-reader", "aws.profile")


def test_no_permission_to_read_the_organization(empty_account_workspace: Workspace) -> None:
    """A denied ListAccounts gives the denied principal and the fix."""
    empty_account_workspace.aws.fault(
        "organizations",
        "ListAccounts",
        code="AccessDeniedException",
        message="You don't have permissions to access this resource.",
    )
    assert_error(
        empty_account_workspace.run("crawl"),
        2,
        "may not read the organization",
        "kmsledger permissions --role management",
    )


def test_an_account_that_is_in_no_organization(empty_account_workspace: Workspace) -> None:
    """Without an organization, the message refers to the setting that lists accounts."""
    empty_account_workspace.aws.fault(
        "organizations",
        "DescribeOrganization",
        code="AWSOrganizationsNotInUseException",
        message="Your account is not a member of an organization.",
    )
    assert_error(empty_account_workspace.run("crawl"), 2, "not part of an organization", "organization.source")


def test_an_unknown_region(empty_account_workspace: Workspace) -> None:
    """A misspelled region is detected before any AWS call."""
    empty_account_workspace.change(regions={"include": ["us-eats-1"]})
    mark = empty_account_workspace.aws.mark()
    completed = empty_account_workspace.run("crawl")
    assert completed.returncode == 2
    assert "regions.include" in completed.stderr
    assert "us-east-1" in completed.stderr
    assert empty_account_workspace.aws.calls_since(mark) == []


def test_an_unreachable_endpoint(empty_account_workspace: Workspace) -> None:
    """The message names the unreachable endpoint and the setting to check."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    empty_account_workspace.change(aws={"endpoint_url": f"http://127.0.0.1:{port}"}, crawl={"max_attempts": 2})
    assert_error(
        empty_account_workspace.run("crawl"), 4, "could not be reached", f"127.0.0.1:{port}", "aws.endpoint_url"
    )


def test_a_missing_settings_file(empty_account_workspace: Workspace) -> None:
    """The message names the missing file."""
    empty_account_workspace.settings.unlink()
    completed = empty_account_workspace.run("crawl")
    assert completed.returncode == 2
    assert str(empty_account_workspace.settings.name) in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_database_of_a_newer_version(account_workspace: Workspace) -> None:
    """A ledger written by a newer version is rejected and stays unchanged."""
    with sqlite3.connect(account_workspace.directory / "ledger.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    assert_error(account_workspace.run("crawl"), 4, "newer kmsledger", "9999")


def test_a_database_that_another_program_locks(account_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database fails the crawl with the cause; after that, a crawl works again."""
    monkeypatch.setattr(engine, "SQLITE_BUSY_TIMEOUT", 1)
    connection = sqlite3.connect(account_workspace.directory / "ledger.db", isolation_level=None)
    connection.execute("begin exclusive")
    try:
        assert_error(account_workspace.run("crawl"), 4, "locked by another program", "ledger.db")
    finally:
        connection.execute("rollback")
        connection.close()
    assert account_workspace.run("crawl").returncode == 3


def test_a_concurrent_crawl(account_workspace: Workspace) -> None:
    """A second crawl of the same ledger fails with the process and start time of the first."""
    with sqlite3.connect(account_workspace.directory / "ledger.db") as connection:
        connection.execute(
            "insert into crawl_lock (lock_id, run_id, host, process_id, acquired_at, heartbeat) "
            "values (1, 1, ?, ?, '2026-01-02 03:04:05.000000', ?)",
            (socket.gethostname(), os.getpid(), f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"),
        )
    assert_error(account_workspace.run("crawl"), 2, "2026-01-02 03:04:05", str(os.getpid()))


def test_a_full_disk_keeps_what_was_saved(account_workspace: Workspace) -> None:
    """On a full disk, the crawl fails and the ledger keeps the last good run."""
    before = account_workspace.sql("select count(*) n from keys")
    # A file size limit has the same effect on SQLite as a full disk.
    size = (account_workspace.directory / "ledger.db").stat().st_size
    completed = subprocess.run(
        [
            "bash",
            "-c",
            f'ulimit -f {size // 1024 + 8}; trap "" XFSZ; exec "$@"',
            "bash",
            str(Path(sys.executable).with_name("kmsledger")),
            "crawl",
            "--config",
            str(account_workspace.settings),
        ],
        env=dict(account_workspace.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert completed.returncode == 4, completed.stderr
    assert "Traceback" not in completed.stderr
    assert "kmsledger: " in completed.stderr
    assert account_workspace.sql("select count(*) n from keys") == before
    assert account_workspace.run("crawl").returncode == 3


def test_control_c_keeps_what_was_saved(empty_workspace: Workspace) -> None:
    """An interrupted crawl keeps its saved scopes, and the next crawl succeeds."""
    # A shell's background job ignores SIGINT, and its children inherit that.
    listening = ("env", "--default-signal=INT")
    command = [
        *listening,
        str(Path(sys.executable).with_name("kmsledger")),
        "crawl",
        "--config",
        str(empty_workspace.settings),
    ]
    with subprocess.Popen(
        command,
        env=empty_workspace.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        _wait_for_scopes(empty_workspace.directory / "ledger.db", 3)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 4, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    with sqlite3.connect(empty_workspace.directory / "ledger.db") as connection:
        assert connection.execute("select status from run").fetchall() == [("interrupted",)]
        assert connection.execute("select count(*) from crawl_lock").fetchone() == (0,)
        (saved,) = connection.execute("select count(*) from scope_coverage").fetchone()
    assert saved >= 3
    narrow(empty_workspace)
    assert empty_workspace.run("crawl").returncode == 3


def _wait_for_scopes(database: Path, wanted: int) -> None:
    for _ in range(600):
        time.sleep(0.05)
        if not database.exists():
            continue
        try:
            with sqlite3.connect(database) as connection:
                (saved,) = connection.execute("select count(*) from scope_coverage").fetchone()
        except sqlite3.OperationalError:
            continue
        if saved >= wanted:
            return
    pytest.fail("no scope was saved in time")


def test_debug_shows_the_traceback(empty_account_workspace: Workspace) -> None:
    """--debug adds the traceback to the error message."""
    empty_account_workspace.settings.unlink()
    command = [
        str(Path(sys.executable).with_name("kmsledger")),
        "--debug",
        "crawl",
        "--config",
        str(empty_account_workspace.settings),
    ]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" in completed.stderr
