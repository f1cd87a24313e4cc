"""What users run into: each ends with one sentence, the documented exit code, no traceback, and nothing saved is lost."""

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

from tests.end_to_end.conftest import House, narrow


def says(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence on standard error with these words, this exit code, no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("kmsledger: ")]
    for word in words:
        assert word in sentence, sentence


def test_credentials_that_aws_does_not_accept(fresh_account: House) -> None:
    """Refused credentials are a usage error that says to renew them."""
    fresh_account.aws.fault(
        "sts", "GetCallerIdentity", code="InvalidClientTokenId", message="The security token is invalid.", status=403
    )
    says(fresh_account.run("crawl"), 2, "did not accept our credentials", "InvalidClientTokenId", "aws.profile")


def test_no_credentials_at_all(fresh_account: House, tmp_path: Path) -> None:
    """Without credentials the command says where it looks for them."""
    fresh_account.extra = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    says(fresh_account.run("crawl"), 2, "no AWS credentials were found", "aws.profile")


def test_a_profile_that_does_not_exist(fresh_account: House) -> None:
    """An unknown profile is named."""
    fresh_account.change(aws={"profile": "nightly-reader"})
    says(fresh_account.run("crawl"), 2, "nightly-reader", "aws.profile")


def test_no_permission_to_read_the_organization(fresh_account: House) -> None:
    """A denied ListAccounts names who was denied and how to go on."""
    fresh_account.aws.fault(
        "organizations",
        "ListAccounts",
        code="AccessDeniedException",
        message="You don't have permissions to access this resource.",
    )
    says(fresh_account.run("crawl"), 4, "may not read the organization", "kmsledger permissions --for hub")


def test_an_account_that_is_in_no_organization(fresh_account: House) -> None:
    """Without an organization the accounts can be listed in the settings."""
    fresh_account.aws.fault(
        "organizations",
        "DescribeOrganization",
        code="AWSOrganizationsNotInUseException",
        message="Your account is not a member of an organization.",
    )
    says(fresh_account.run("crawl"), 4, "not part of an organization", "organization.source")


def test_an_unknown_region(fresh_account: House) -> None:
    """A misspelt region is found before anything is asked of AWS."""
    fresh_account.change(regions={"include": ["us-eats-1"]})
    mark = fresh_account.aws.mark()
    done = fresh_account.run("crawl")
    assert done.returncode == 2
    assert "regions.include" in done.stderr
    assert "us-east-1" in done.stderr
    assert fresh_account.aws.calls_since(mark) == []


def test_an_unreachable_endpoint(fresh_account: House) -> None:
    """A dead endpoint is named, with what to check."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    fresh_account.change(aws={"endpoint_url": f"http://127.0.0.1:{port}"}, crawl={"max_attempts": 2})
    says(fresh_account.run("crawl"), 2, "cannot be reached", f"127.0.0.1:{port}", "aws.endpoint_url")


def test_a_missing_settings_file(fresh_account: House) -> None:
    """The command names the file that it looked for."""
    fresh_account.settings.unlink()
    done = fresh_account.run("crawl")
    assert done.returncode == 2
    assert str(fresh_account.settings.name) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_a_newer_program(account: House) -> None:
    """A ledger written by a newer version is left as it is."""
    with sqlite3.connect(account.directory / "ledger.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    says(account.run("crawl"), 4, "newer kmsledger", "9999")


def test_a_database_that_another_program_locks(account: House) -> None:
    """A locked database ends the crawl with the cause; afterwards it goes on as if nothing had been."""
    connection = sqlite3.connect(account.directory / "ledger.db", isolation_level=None)
    connection.execute("begin exclusive")
    try:
        says(account.run("crawl"), 4, "locked by another program", "ledger.db")
    finally:
        connection.execute("rollback")
        connection.close()
    assert account.run("crawl").returncode == 3


def test_a_crawl_beside_a_running_crawl(account: House) -> None:
    """A second crawl of the same ledger is told who holds it since when."""
    with sqlite3.connect(account.directory / "ledger.db") as connection:
        connection.execute(
            "insert into crawl_lock (lock_id, run_id, host, process_id, acquired_at, heartbeat) "
            "values (1, 1, ?, ?, '2026-01-02 03:04:05.000000', ?)",
            (socket.gethostname(), os.getpid(), f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"),
        )
    says(account.run("crawl"), 2, "2026-01-02 03:04:05", str(os.getpid()))


def test_a_full_disk_keeps_what_was_saved(account: House) -> None:
    """When the disk is full the crawl says so; the ledger still holds the last good night."""
    before = account.sql("select count(*) n from keys")
    # A file size limit gives SQLite the same refusal as a full disk.
    size = (account.directory / "ledger.db").stat().st_size
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'ulimit -f {size // 1024 + 8}; trap "" XFSZ; exec "$@"',
            "bash",
            str(Path(sys.executable).with_name("kmsledger")),
            "crawl",
            "--config",
            str(account.settings),
        ],
        env=dict(account.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert "kmsledger: " in done.stderr
    assert account.sql("select count(*) n from keys") == before
    assert account.run("crawl").returncode == 3


def test_control_c_keeps_what_was_saved(fresh: House) -> None:
    """An interrupted crawl says so, keeps its saved scopes, and the next one goes through."""
    # A job in the background of a shell does not listen to Ctrl-C, nor would what it starts.
    listening = ("env", "--default-signal=INT")
    command = [*listening, str(Path(sys.executable).with_name("kmsledger")), "crawl", "--config", str(fresh.settings)]
    with subprocess.Popen(
        command,
        env=fresh.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        _wait_for_scopes(fresh.directory / "ledger.db", 3)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 4, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    with sqlite3.connect(fresh.directory / "ledger.db") as connection:
        assert connection.execute("select status from run").fetchall() == [("interrupted",)]
        assert connection.execute("select count(*) from crawl_lock").fetchone() == (0,)
        (saved,) = connection.execute("select count(*) from scope_coverage").fetchone()
    assert saved >= 3
    narrow(fresh)
    assert fresh.run("crawl").returncode == 3


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


def test_debug_shows_the_traceback(fresh_account: House) -> None:
    """--debug shows what the sentence leaves out."""
    fresh_account.settings.unlink()
    command = [
        str(Path(sys.executable).with_name("kmsledger")),
        "--debug",
        "crawl",
        "--config",
        str(fresh_account.settings),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" in done.stderr
