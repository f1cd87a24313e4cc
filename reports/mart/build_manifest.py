"""What a mart was built from: the program, the ledger, the last run. Decides whether an incremental build is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import duckdb
import orjson

from reports.mart.connection import CATALOG, fetch_one, quoted
from reports.mart.errors import OutdatedMartError, QueryError

_PACKAGES = ("models", "reports.access", "reports.mart")
_MODULES = ("ledger_reader.py",)
"""Files that decide what a mart holds; views that every build computes are included, to be safe."""
MAX_FREE_RATIO = 0.6
"""The share of unused blocks in the file above which it is rebuilt."""


class RebuildRequired(Exception):  # noqa: N818 - a decision, not a failure
    """The existing mart cannot be updated incrementally; the message gives the reason for the log."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a mart was built from."""

    program: str
    """Digest of the program's files and the versions of kmsledger and DuckDB."""
    ledger: str
    """Digest of the ledger's location."""
    parties: str
    """Digest of the configured parties, which old changes name too."""
    as_of: int = 0
    last_run: int = 0
    """The last run of the ledger that was loaded, ended or not."""
    latest: bool = False
    """Whether the views answer as of the latest run that ended."""

    def since(self) -> int:
        """The first run whose versions may have been rewritten since the build."""
        return min(self.as_of, self.last_run)


def expected(engine_url: str, parties: Iterable[tuple[str, Iterable[str]]]) -> Manifest:
    """The manifest of a mart that this program builds from this ledger; runs are still unset."""
    from sqlalchemy import make_url

    listed = sorted((name, sorted(accounts)) for name, accounts in parties)
    url = make_url(engine_url)
    path = str(Path(url.database or "").resolve()) if url.get_backend_name() == "sqlite" else ""
    location = url.set(password=None).render_as_string() + path
    return Manifest(program_digest(), _digest(location.encode()), _digest(orjson.dumps(listed)))


def check(duck: duckdb.DuckDBPyConnection, expected: Manifest) -> Manifest:
    """The manifest of the mart in use, if it can be updated incrementally. Raises RebuildRequired otherwise."""
    try:
        manifest = Manifest(
            *fetch_one(duck, "SELECT program, ledger, parties, as_of, last_run, latest FROM internal.build_manifest")
        )
    except (duckdb.Error, ValueError) as error:
        raise RebuildRequired("another version built the previous mart") from error
    size = (
        f"SELECT free_blocks / greatest(total_blocks, 1) FROM pragma_database_size() WHERE database_name = '{CATALOG}'"
    )
    (free_ratio,) = fetch_one(duck, size)
    if manifest.program != expected.program:
        raise RebuildRequired("another version of the program built the previous mart")
    if manifest.ledger != expected.ledger:
        raise RebuildRequired("the previous mart was built from another ledger")
    if manifest.parties != expected.parties:
        raise RebuildRequired("the configured parties have changed")
    if not manifest.latest:
        raise RebuildRequired("the previous mart answers as of an earlier run")
    if free_ratio > MAX_FREE_RATIO:
        raise RebuildRequired(f"{free_ratio:.0%} of the previous mart's file is unused")
    return manifest


def copy_schema(duck: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Copy views, macros and descriptions from the mart at a path into the empty catalog in use; False if versions differ.

    Creating them takes longer than loading a small ledger.
    """
    if not path.exists():
        return False
    try:
        duck.execute(f"ATTACH {quoted(str(path))} AS published (READ_ONLY)")
    except duckdb.Error:
        return False  # not a database; the full build replaces it
    try:
        same = built_by_this_program(duck, "published")
        if same:
            duck.execute(f"COPY FROM DATABASE published TO {CATALOG} (SCHEMA)")
    finally:
        duck.execute("DETACH published")
    return same


def built_by_this_program(duck: duckdb.DuckDBPyConnection, catalog: str) -> bool:
    """Whether this version of the program built the mart that is attached as a catalog: its schema is then the same."""
    try:
        return bool(fetch_one(duck, f"SELECT program FROM {catalog}.internal.build_manifest")[0] == program_digest())
    except (duckdb.CatalogException, duckdb.BinderException):
        return False  # a mart of an old version has no such table or column


@contextmanager
def explain_outdated(duck: duckdb.DuckDBPyConnection, *, prepared: bool) -> Iterator[None]:
    """Explain why a query in the block names a view or column that the mart does not have, if another version built the mart.

    Raises OutdatedMartError for a query of this program (``prepared``), otherwise QueryError, because the user may be wrong.
    """
    try:
        yield
    except QueryError as error:
        is_missing = isinstance(error.__cause__, duckdb.CatalogException | duckdb.BinderException)
        if not is_missing or built_by_this_program(duck, CATALOG):
            raise
        if prepared:
            raise OutdatedMartError from error
        raise QueryError(
            f"{error}; another version of kmsledger built the mart, which `kmsledger mart` rebuilds"
        ) from error


def save(duck: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
    """Write the manifest into the mart in use."""
    duck.execute(
        "CREATE OR REPLACE TABLE internal.build_manifest AS SELECT $program AS program, $ledger AS ledger, $parties AS parties, "
        "CAST($as_of AS INTEGER) AS as_of, CAST($last_run AS INTEGER) AS last_run, CAST($latest AS BOOLEAN) AS latest",
        {name: getattr(manifest, name) for name in manifest.__dataclass_fields__},
    )


def compare_runs(duck: duckdb.DuckDBPyConnection, known: str, current: str, last_run: int) -> None:
    """Raise RebuildRequired unless the current table of runs continues the known one.

    Pruning changes or deletes runs; another ledger, or one restored from a backup, has different ones. The last known run may
    have been resumed, unless it was still running: then it is unknown which of its facts had been read.
    """
    from models.tables.runs import RunStatus

    if duck.execute(f"SELECT status FROM {known} WHERE run_id = {last_run:d}").fetchall() == [
        (str(RunStatus.RUNNING),)
    ]:
        raise RebuildRequired("the last run of the previous mart had not ended")
    old, new = (
        f"SELECT * FROM {source} WHERE run_id < {last_run:d} UNION ALL "
        f"SELECT * REPLACE ({_MAY_CHANGE}) FROM {source} WHERE run_id = {last_run:d}"
        for source in (known, current)
    )
    if fetch_one(duck, f"SELECT count(*) FROM (({old}) EXCEPT ({new}))") != (0,):
        raise RebuildRequired("the ledger's runs were pruned or replaced")
    if fetch_one(duck, f"SELECT count(*) FROM (({new}) EXCEPT ({old}))") != (0,):
        raise RebuildRequired("the ledger has new runs older than the last known one")


_MAY_CHANGE = ", ".join(
    f"NULL AS {name}" for name in ("finished_at", "status", "message", "accounts", "scopes", "calls", "gaps",
                                   "caller_arn", "partition", "organization_id", "management_account_id")
)  # fmt: skip
"""The columns that a resumed run may change."""


@cache
def program_digest() -> str:
    """Digest of everything that decides what a mart holds."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{metadata.version('kmsledger')} {duckdb.__version__}".encode())
    for package in _PACKAGES:
        folders = [resources.files(package)]
        while folders:
            for entry in sorted(folders.pop().iterdir(), key=lambda entry: entry.name):
                if entry.is_dir():
                    if entry.name != "__pycache__":
                        folders.append(entry)
                elif entry.name.endswith((".py", ".sql")):
                    digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
    for name in _MODULES:
        digest.update(resources.files("reports").joinpath(name).read_bytes())
    return digest.hexdigest()


def _digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()
