"""Checks of this machine for `kmsledger doctor`: database, disk space, file permissions. Nothing is written."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from shlex import quote

from sqlalchemy import make_url

from models.diagnosis import Check, from_error, named, ok, problem, unknown
from models.errors import UserError
from models.settings import Settings
from models.store import engine as database

MIN_FREE = 500_000_000
"""Bytes that must be free where ledger, mart and reports are."""
DRAFT_COPIES = 2
"""A mart is built beside the published one, and a full rebuild spills about as much again."""


def local_checks(settings: Settings, settings_file: Path) -> list[Check]:
    """Return the checks of everything that a run uses on this machine."""
    ledger = _sqlite_file(settings.database)
    return [
        _database(settings.database, ledger),
        *_disk_space(settings, ledger),
        *_permissions(settings_file, settings, ledger),
    ]


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _database(url: str, ledger: Path | None) -> Check:
    if ledger is not None:
        directory = ledger.absolute().parent
        if not os.access(directory, os.W_OK | os.X_OK):
            there = os.path.exists(directory)  # noqa: PTH110 - Path.exists() raises without permission
            fix = "give this user write permission on it" if there else f"mkdir -p {quote(str(directory))}"
            return problem("database", f"{directory} cannot be written", fix, str(ledger), fatal=True)
        if not os.path.exists(ledger):  # noqa: PTH110 - as above
            return ok("database", f"{ledger} does not exist yet: the first run creates it", str(ledger))
        if not os.access(ledger, os.R_OK | os.W_OK):
            return problem(
                "database", f"{ledger} cannot be written", f"chmod u+rw {quote(str(ledger))}", str(ledger), fatal=True
            )
        if ledger.stat().st_size == 0:
            return ok("database", f"{ledger} is empty: the first run creates its tables", str(ledger))
    revision = None
    try:
        with database.opened(url, must_exist=True) as engine:
            with database.translate_errors(engine), engine.connect() as connection:
                revision = database.current(connection)
            if revision is not None:
                database.check(engine)
    except UserError as error:
        # The next run upgrades an old schema; until then, other commands fail.
        return from_error("database", error, fatal=revision is None or revision > database.head())
    name = str(ledger or engine.url.render_as_string(hide_password=True))
    schema = f"has schema {revision}" if revision else "is empty: the first run creates its tables"
    return ok("database", f"{name} {schema}", name)


def _disk_space(settings: Settings, ledger: Path | None) -> Iterator[Check]:
    """A check for each file system that holds the ledger, the mart or the reports."""
    mart = settings.report.mart.absolute()
    size = mart.stat().st_size if os.path.isfile(mart) else 0  # noqa: PTH113 - Path.is_file() raises without permission
    needs: dict[int, tuple[Path, int]] = {}
    for path, needed in ((ledger, 0), (mart, DRAFT_COPIES * size), (settings.report.directory, 0)):
        if path is None:
            continue
        directory = _existing(path.absolute())
        device = directory.stat().st_dev
        first, total = needs.get(device, (directory, MIN_FREE))
        needs[device] = first, total + needed
    for directory, needed in needs.values():
        free = shutil.disk_usage(directory).free
        message = f"{_gigabytes(free)} are free at {directory}"
        if free >= needed:
            yield ok("disk", message, str(directory))
        else:
            yield problem(
                "disk",
                f"{message}, and a run needs {_gigabytes(needed)}",
                f"free {_gigabytes(needed - free)} there, or move database, report.mart and report.directory",
                str(directory),
            )


def _existing(path: Path) -> Path:
    while not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises without permission
        path = path.parent
    return path


def _permissions(settings_file: Path, settings: Settings, ledger: Path | None) -> Iterator[Check]:
    """A check for each kind of file that other users of this machine can read, or whose mode is unknown."""
    ledgers = [] if ledger is None else [ledger, *(ledger.with_name(ledger.name + end) for end in ("-wal", "-shm"))]
    directory = settings.report.directory.absolute()
    reports, error = _listed(directory)
    if error is not None:
        yield _unexamined("reports", f"{directory} cannot be listed", directory, error)
    kinds: dict[str, list[Path]] = {
        "settings file": [settings_file],
        "ledger": ledgers,
        "mart": [settings.report.mart],
        **({"reports": reports} if error is None else {}),
    }
    private: list[str] = []
    found = False
    for kind, paths in kinds.items():
        exposed, failures = _exposed([path.absolute() for path in paths])
        if exposed:
            found = True
            everybody = any(access & stat.S_IRWXO for access in exposed.values())
            others = "everybody" if everybody else "their group"
            first = next(iter(exposed))
            files_of_kind = " ".join(quote(str(path)) for path in exposed)
            target = f"{quote(str(first.parent))}/*" if kind == "reports" else files_of_kind
            yield problem(
                "permissions",
                f"{kind}: {_shown(exposed)} can be accessed by {others}",
                f"chmod go-rwx {target}",
                *map(str, exposed),
            )
        if failures:
            path, failure = next(iter(failures.items()))
            yield _unexamined(kind, f"{_shown(failures)} cannot be examined", path.parent, failure)
        if not (exposed or failures):
            private.append(kind)
    if private and not found:
        yield ok("permissions", f"only this user can read {named(private)}")


def _listed(directory: Path) -> tuple[list[Path], OSError | None]:
    """The entries of a directory, which need not exist, or the reason why they are unknown."""
    try:
        return sorted(directory.iterdir()), None
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], error


def _exposed(paths: Iterable[Path]) -> tuple[dict[Path, int], dict[Path, OSError]]:
    """The files that others can access, with their permissions, and those that cannot be examined, with the reason."""
    exposed: dict[Path, int] = {}
    failures: dict[Path, OSError] = {}
    for path in paths:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failures[path] = error
        else:
            if stat.S_ISREG(status.st_mode) and (access := _access_of_others(status)):
                exposed[path] = access
    return exposed, failures


def _shown(paths: Collection[Path]) -> str:
    first = next(iter(paths))
    return str(first) if len(paths) == 1 else f"{len(paths)} files in {first.parent}"


def _unexamined(kind: str, cause: str, directory: Path, error: OSError) -> Check:
    """The check of files whose permissions are unknown."""
    fix = "run `kmsledger doctor` as the user that owns it, or give this user read permission on it"
    if isinstance(error, PermissionError):
        with contextlib.suppress(OSError):
            if directory.stat().st_uid == os.geteuid():
                fix = f"chmod u+rx {quote(str(directory))}"
    else:
        fix = f"correct what the operating system reports for {directory}"
    message = f"who can read the {kind} could not be checked: {cause} ({error.strerror or error})"
    return unknown("permissions", message, fix, str(directory))


def _access_of_others(status: os.stat_result) -> int:
    """The permissions of a file for others than this user, who may be a member of the group that a file is shared with."""
    return status.st_mode & (stat.S_IRWXG | stat.S_IRWXO if status.st_uid == os.getuid() else stat.S_IRWXO)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
