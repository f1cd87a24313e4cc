"""What a mart is made of: which program, which ledger, how far. Decides whether the next one may go on from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

import duckdb
import orjson
from sqlalchemy import make_url

from models.tables.runs import RunStatus
from reports.mart.connection import quoted
from reports.mart.rows import one

_PACKAGES = ("models", "reports.access", "reports.mart")
"""Whose files decide what a mart holds; views and rules that are computed each night anyway included, to be sure."""
FREE = 0.6
"""Share of the file that may be unused before it is built anew."""


class DoubtError(Exception):
    """The mart that is there cannot be gone on from; the message says why, for the log."""


@dataclass(frozen=True, slots=True)
class Made:
    """How a mart was made."""

    program: str
    """Digest of the program's files, with the version of DuckDB."""
    ledger: str
    """Digest of where the ledger is."""
    parties: str
    """Digest of the configured parties: changes long ago name them."""
    as_of: int = 0
    last_run: int = 0
    """The last run of the ledger that was taken over, ended or not."""
    latest: bool = False
    """Whether the views answer for the latest run that ended."""

    def since(self) -> int:
        """The first run whose versions may have been written again since."""
        return min(self.as_of, self.last_run)


def wanted(engine_url: str, parties: Iterable[tuple[str, Iterable[str]]]) -> Made:
    """What a mart that this program makes of this ledger says of itself."""
    listed = sorted((name, sorted(accounts)) for name, accounts in parties)
    url = make_url(engine_url)
    place = str(Path(url.database or "").resolve()) if url.get_backend_name() == "sqlite" else ""
    where = url.set(password=None).render_as_string() + place
    return Made(_program(), _digest(where.encode()), _digest(orjson.dumps(listed)))


def check(duck: duckdb.DuckDBPyConnection, path: Path, now: Made) -> Made:
    """The state of the mart at a path, if one of today may go on from it. Raises DoubtError."""
    if not path.exists():
        raise DoubtError("there is none yet")
    try:
        duck.execute(f"ATTACH {quoted(str(path))} AS published (READ_ONLY)")
    except duckdb.Error as error:
        raise DoubtError(f"it cannot be read ({type(error).__name__})") from error
    try:
        made = Made(
            *one(
                duck, "SELECT program, ledger, parties, as_of, last_run, latest FROM published.internal.build_manifest"
            )
        )
        size = "SELECT free_blocks / greatest(total_blocks, 1) FROM pragma_database_size() WHERE database_name = 'published'"
        free = one(duck, size)[0]
        duck.execute("CREATE OR REPLACE TABLE memory.main.runs_before AS FROM published.internal.run")
    except (duckdb.Error, ValueError) as error:
        raise DoubtError("another version made it") from error
    finally:
        duck.execute("DETACH published")
    if made.program != now.program:
        raise DoubtError("another version of the program made it")
    if made.ledger != now.ledger:
        raise DoubtError("it was made of another ledger")
    if made.parties != now.parties:
        raise DoubtError("the parties in the settings are others")
    if not made.latest:
        raise DoubtError("it answers for an earlier run")
    if free > FREE:
        raise DoubtError(f"{free:.0%} of its file are unused")
    return made


def keep(duck: duckdb.DuckDBPyConnection, made: Made) -> None:
    """Write the state into the mart in use."""
    duck.execute(
        "CREATE OR REPLACE TABLE internal.build_manifest AS SELECT $program AS program, $ledger AS ledger, $parties AS parties, "
        "CAST($as_of AS INTEGER) AS as_of, CAST($last_run AS INTEGER) AS last_run, CAST($latest AS BOOLEAN) AS latest",
        {name: getattr(made, name) for name in made.__dataclass_fields__},
    )


def compare_runs(duck: duckdb.DuckDBPyConnection, known: str, now: str, last_run: int) -> None:
    """Raise DoubtError unless a table of runs of now goes on from the known one.

    Pruning changes or deletes runs; another ledger, or one restored from a copy, has others. The last known run may have
    been resumed, unless it was still running: then nobody knows what of it had been read.
    """
    if duck.execute(f"SELECT status FROM {known} WHERE run_id = {last_run:d}").fetchall() == [
        (str(RunStatus.RUNNING),)
    ]:
        raise DoubtError("its last run had not ended")
    old, new = (
        f"SELECT * FROM {source} WHERE run_id < {last_run:d} UNION ALL "
        f"SELECT * REPLACE ({_MAY_CHANGE}) FROM {source} WHERE run_id = {last_run:d}"
        for source in (known, now)
    )
    if one(duck, f"SELECT count(*) FROM (({old}) EXCEPT ({new}))") != (0,):
        raise DoubtError("runs of the ledger were pruned, or are others")
    if one(duck, f"SELECT count(*) FROM (({new}) EXCEPT ({old}))") != (0,):
        raise DoubtError("the ledger has older runs that are new")


_MAY_CHANGE = ", ".join(
    f"NULL AS {name}" for name in ("finished_at", "status", "message", "accounts", "scopes", "calls", "gaps",
                                   "caller_arn", "partition", "organization_id", "management_account_id")
)  # fmt: skip
"""Of a run that is resumed."""


def _program() -> str:
    found = hashlib.blake2b(digest_size=16)
    found.update(f"{metadata.version('kmsledger')} {duckdb.__version__}".encode())
    for package in _PACKAGES:
        folders = [resources.files(package)]
        while folders:
            for entry in sorted(folders.pop().iterdir(), key=lambda entry: entry.name):
                if entry.is_dir():
                    if entry.name != "__pycache__":
                        folders.append(entry)
                elif entry.name.endswith((".py", ".sql")):
                    found.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return found.hexdigest()


def _digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()
