"""Checks of this machine: database, disk space and file permissions, each with its fix."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.diagnosis import Check, Status
from models.local_checks import local_checks
from models.settings import Settings


def settings_in(directory: Path, database: str = "sqlite:///ledger.db") -> Settings:
    report = {"mart": "kmsledger.duckdb", "directory": "reports"}
    return Settings.model_validate({"database": database, "report": report}, context={"base": str(directory)})


def checked(directory: Path, name: str, database: str = "sqlite:///ledger.db") -> list[Check]:
    """The checks of this name."""
    checks = local_checks(settings_in(directory, database), directory / "kmsledger.yaml")
    return [check for check in checks if check.name == name]


def test_a_new_ledger_needs_only_its_directory(tmp_path: Path, sqlite_template: Path) -> None:
    """Without a file, the directory decides; an existing ledger must have the schema of this version; nothing is created."""
    (new,) = checked(tmp_path, "database")
    assert (new.status, new.message) == (
        Status.OK,
        f"{tmp_path / 'ledger.db'} does not exist yet: the first run creates it",
    )
    assert list(tmp_path.iterdir()) == []
    (missing,) = checked(tmp_path, "database", f"sqlite:///{tmp_path}/none/ledger.db")
    assert (missing.status, missing.fix) == (Status.FATAL, f"mkdir -p {tmp_path}/none")
    (quoted,) = checked(tmp_path, "database", f"sqlite:///{tmp_path}/my $(id)/ledger.db")
    assert quoted.fix == f"mkdir -p '{tmp_path}/my $(id)'"
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    (current,) = checked(tmp_path, "database")
    assert "has schema" in current.message
    (tmp_path / "ledger.db").write_bytes(b"this is not a database" * 100)
    (damaged,) = checked(tmp_path, "database")
    assert (damaged.status, damaged.fix) == (Status.FATAL, "restore it from a backup or name another file")


def test_a_server_that_does_not_answer_is_fatal(tmp_path: Path) -> None:
    """The sentence of the database has cause and fix, and no password."""
    (check,) = checked(tmp_path, "database", "postgresql://kms:secret@127.0.0.1:9/kms")
    assert check.status is Status.FATAL
    assert "no PostgreSQL server answers at postgresql://kms:***@127.0.0.1:9/kms" in check.message
    assert check.fix == "start it or correct host and port"


def test_files_that_others_can_access(tmp_path: Path) -> None:
    """Each kind of file is one check with the command that fixes it; files without access for others are not named."""
    reports = tmp_path / "reports"
    reports.mkdir()
    modes = {"kmsledger.yaml": 0o640, "kmsledger.duckdb": 0o604, "reports/a.html": 0o644, "reports/b.html": 0o600}
    for name, mode in modes.items():
        (tmp_path / name).write_text("", encoding="utf-8")
        (tmp_path / name).chmod(mode)
    found = {check.message: check.fix for check in checked(tmp_path, "permissions")}
    assert found == {
        f"settings file: {tmp_path}/kmsledger.yaml can be accessed by their group": f"chmod go-rwx {tmp_path}/kmsledger.yaml",
        f"mart: {tmp_path}/kmsledger.duckdb can be accessed by everybody": f"chmod go-rwx {tmp_path}/kmsledger.duckdb",
        f"reports: {reports}/a.html can be accessed by everybody": f"chmod go-rwx {reports}/*",
    }
    for name in modes:
        (tmp_path / name).chmod(0o600)
    (fine,) = checked(tmp_path, "permissions")
    assert fine.status is Status.OK


UNPRIVILEGED = pwd.getpwnam("nobody")


@contextmanager
def unprivileged(directory: Path) -> Iterator[None]:
    """Give the directory and its files to a user without privileges, and act as this user."""
    if os.geteuid() != 0:
        yield
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, UNPRIVILEGED.pw_uid, UNPRIVILEGED.pw_gid)
    os.seteuid(UNPRIVILEGED.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def searchable() -> Iterator[Path]:
    """A directory that every user can reach, unlike that of pytest."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_reports_that_cannot_be_listed_are_unknown(searchable: Path) -> None:
    """A directory that this user cannot list may have files that others can read: that is unknown, and nothing else is."""
    reports = searchable / "reports"
    reports.mkdir()
    (reports / "a.html").write_text("", encoding="utf-8")
    (reports / "a.html").chmod(0o644)
    reports.chmod(0o311)
    with unprivileged(searchable):
        checks = checked(searchable, "permissions")
    reports.chmod(0o700)
    assert [(check.status, check.message, check.fix) for check in checks] == [
        (
            Status.UNKNOWN,
            f"who can read the reports could not be checked: {reports} cannot be listed (Permission denied)",
            f"chmod u+rx {reports}",
        ),
        (Status.OK, "only this user can read settings file, ledger, mart", ""),
    ]


def test_files_that_cannot_be_examined_are_unknown(searchable: Path) -> None:
    """In a directory that this user can list but not search, the modes of files are unknown; the cause is named once."""
    reports = searchable / "reports"
    reports.mkdir()
    for name in ("a.html", "b.html"):
        (reports / name).write_text("", encoding="utf-8")
    reports.chmod(0o600)
    with unprivileged(searchable):
        first, _ = checked(searchable, "permissions")
    reports.chmod(0o700)
    assert first.status is Status.UNKNOWN
    assert first.message == (
        f"who can read the reports could not be checked: 2 files in {reports} cannot be examined (Permission denied)"
    )
    assert first.fix == f"chmod u+rx {reports}"


def test_a_mart_that_cannot_be_reached_is_unknown(searchable: Path) -> None:
    """A mart in a closed directory ends no check: who can read it is unknown; a directory of another user needs that user."""
    (searchable / "closed").mkdir(mode=0o700)
    settings = settings_in(searchable)
    report = settings.report.model_copy(update={"mart": searchable / "closed" / "kmsledger.duckdb"})
    (searchable / "closed").chmod(0o000)
    with unprivileged(searchable):
        checks = local_checks(settings.model_copy(update={"report": report}), searchable / "kmsledger.yaml")
    (searchable / "closed").chmod(0o700)
    (unknown,) = [check for check in checks if check.status is Status.UNKNOWN]
    assert "who can read the mart could not be checked" in unknown.message
    assert unknown.fix == f"chmod u+rx {searchable}/closed"


def test_commands_quote_paths(tmp_path: Path) -> None:
    """A path with spaces or characters of the shell is one argument, also where all reports are meant."""
    folder = tmp_path / "my $(id)"
    (folder / "reports").mkdir(parents=True)
    for name in ("ledger.db", "ledger.db-wal", "reports/a.html"):
        (folder / name).write_text("", encoding="utf-8")
        (folder / name).chmod(0o644)
    assert {check.fix for check in checked(folder, "permissions")} == {
        f"chmod go-rwx '{folder}/ledger.db' '{folder}/ledger.db-wal'",
        f"chmod go-rwx '{folder}/reports'/*",
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_may_be_shared_with_this_one(tmp_path: Path) -> None:
    """A settings file of root that the group of the service may read is as it should be, unless everybody can."""
    path = tmp_path / "kmsledger.yaml"
    path.write_text("", encoding="utf-8")
    os.chown(path, 65_534, -1)
    path.chmod(0o640)
    assert [check.status for check in checked(tmp_path, "permissions")] == [Status.OK]
    path.chmod(0o644)
    assert [check.status for check in checked(tmp_path, "permissions")] == [Status.PROBLEM]
