"""Builds the mart: a DuckDB file with the whole ledger and the analysts' views, published by an atomic rename."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from models.file_access import share
from models.output_file import reject_irregular, remove_stale_files, unfinished_version
from models.settings import Settings
from models.store.engine import check, opened, size
from reports import ledger_reader
from reports.connections import new_connection
from reports.mart import (
    build_manifest,
    change_log,
    event_selectors,
    incremental_load,
    partial_refresh,
    policy_tables,
    view_loader,
)
from reports.mart.as_of import moments, resolve_as_of
from reports.mart.build_manifest import Manifest, RebuildRequired
from reports.mart.connection import CATALOG, fetch_one, limit_memory, quoted, working_memory
from reports.mart.draft_file import copy
from reports.mart.errors import MartError
from reports.mart.extension import Extension, create_tables
from reports.mart.internal_schema import create_schema

log = logging.getLogger(__name__)

_SCHEMA = "internal"
_STORAGE = "v1.0.0"
"""An old storage version, so that older DuckDB clients can open the file."""

_SMALL = 10_000_000
"""Bytes of a ledger up to which a mart is built by one thread and in memory: more threads and a checkpoint cost more than they
save."""

_COMPRESSED_ROWS = 100_000
"""Rows from which a file is compressed: a small one has the same size without, and choosing a compression for each of 700 columns
takes a tenth of a second."""


@dataclass(frozen=True, slots=True)
class MartInfo:
    """A published mart: its path, and the run whose state its views show."""

    path: Path
    as_of: int
    as_of_at: dt.datetime
    """When that run began (UTC)."""
    keys: int
    findings: int


def build(
    engine_url: str,
    mart_path: Path,
    settings: Settings,
    *,
    as_of: int | str | None = None,
    extensions: Sequence[Extension] = (),
    schema_of: Path | None = None,
) -> MartInfo:
    """Build the mart from the ledger and replace the published one; open readers keep the old file.

    ``as_of`` is the run or date for which the views answer (see :func:`reports.mart.as_of.resolve_as_of`), by default the latest
    run that ended. ``schema_of`` is a mart whose views are copied if this program built it, where no mart is replaced: creating
    them takes a second. Raises MartError, QueryError, LedgerReadError or DatabaseError.
    """
    with mart_builder(engine_url, mart_path, settings, as_of=as_of, extensions=extensions, schema_of=schema_of) as mart:
        return mart.info()


@dataclass(frozen=True, slots=True)
class DraftMart:
    """A complete mart that is not published yet."""

    duck: duckdb.DuckDBPyConnection
    path: Path
    as_of: int

    @contextmanager
    def released(self) -> Iterator[Path]:
        """Let another process read the draft, at this path, while the block runs; the connection does not use it then."""
        draft_path = Path(
            fetch_one(self.duck, f"SELECT path FROM duckdb_databases() WHERE database_name = '{CATALOG}'")[0]
        )
        _close(self.duck)
        try:
            yield draft_path
        finally:
            _attach(self.duck, draft_path)

    def with_enough_memory(self, work: Callable[[], None]) -> None:
        """Do this, and again with more memory if it does not suffice, as not everything can be spilled."""
        try:
            work()
        except duckdb.OutOfMemoryException:
            log.warning(
                "the results for %s need more memory than planned: they are computed again, with more", self.path.name
            )
            self.duck.execute("RESET memory_limit")
            work()

    def apply_findings(self) -> None:
        """Apply the changed findings, which were written to the ledger, to the mart's copies of the same tables.

        Can be repeated.
        """
        incremental_load.apply_results(self.duck, self.as_of)
        if not partial_refresh.refresh_findings(self.duck, self.as_of):
            view_loader.recompute(self.duck, self.as_of, {partial_refresh.FINDING_EPISODES.view})

    def info(self) -> MartInfo:
        """The size of the mart, and its run."""
        query = (
            "SELECT (SELECT started_at FROM internal.run WHERE run_id = $run), (SELECT count(*) FROM keys), "
            "(SELECT coalesce(sum(passed + failed + unknown + not_applicable + waived), 0) FROM rule_results)"
        )
        row = self.duck.execute(query, {"run": self.as_of}).fetchone()
        if row is None:
            raise MartError("the mart is empty after it was built: report this as a bug")
        return MartInfo(self.path, self.as_of, row[0].replace(tzinfo=dt.UTC), row[1], row[2])


@contextmanager
def mart_builder(
    engine_url: str,
    mart_path: Path,
    settings: Settings,
    *,
    as_of: int | str | None = None,
    extensions: Sequence[Extension] = (),
    schema_of: Path | None = None,
) -> Iterator[DraftMart]:
    """Build a mart in a temporary file; publish it when the block ends without an error."""
    with opened(engine_url, must_exist=True) as engine:
        check(engine)
        ledger_size = size(engine)
    if mart_path.stem in {_SCHEMA, "main", "system", "temp"}:
        raise MartError(
            f"the mart cannot be named {mart_path.name}: DuckDB uses the file's name for the database, and a schema "
            f"inside has that name; set report.mart to another name"
        )
    reject_irregular(mart_path)
    remove_stale_files(mart_path)
    draft_path = unfinished_version(mart_path)
    parties = [(party.name, party.accounts) for party in settings.known_external_parties]
    inputs = _Inputs(engine_url, mart_path, draft_path, as_of, parties, schema_of)
    manifest = build_manifest.expected(engine_url, parties)
    with _errors_explained(mart_path):
        memory = working_memory(ledger_size)
        try:
            try:
                duck, run = inputs.draft(manifest, extensions, ledger_size, memory)
            except duckdb.OutOfMemoryException:
                log.warning(
                    "%s needs more than %d MB of memory: it is built again, with more",
                    mart_path.name,
                    memory // 1_000_000,
                )
                duck, run = inputs.draft(manifest, extensions, ledger_size, None)
            with duck:
                yield DraftMart(duck, mart_path, run)
                runs = moments(duck)
                latest = resolve_as_of(runs).run_id == run
                build_manifest.save(duck, replace(manifest, as_of=run, last_run=runs[-1].run_id, latest=latest))
                _close(duck)
                share(draft_path)
                draft_path.replace(mart_path)
        finally:
            _remove(draft_path)


def _open(draft_path: Path, ledger_size: int, memory: int | None) -> duckdb.DuckDBPyConnection:
    """A connection for a ledger of some bytes, with a limit in bytes or DuckDB's own limit, and no mart attached yet."""
    _remove(draft_path)
    duck = new_connection()
    if memory is not None:  # the default, a share of the machine's memory, depends on the machine
        limit_memory(duck, memory)
    if ledger_size <= _SMALL:
        duck.execute("SET threads = 1")
    duck.execute(f"SET temp_directory = {quoted(str(draft_path) + '.tmp')}")
    duck.execute("SET preserve_insertion_order = false")
    return duck


def _attach(duck: duckdb.DuckDBPyConnection, draft_path: Path) -> None:
    # No other process opens the file before it is complete: a crash discards it, so it needs no write-ahead log.
    options = f"STORAGE_VERSION '{_STORAGE}', RECOVERY_MODE 'NO_WAL_WRITES'"
    duck.execute(f"ATTACH {quoted(str(draft_path))} AS {CATALOG} ({options})")
    duck.execute(f"USE {CATALOG}")


def _close(duck: duckdb.DuckDBPyConnection) -> None:
    """Write the draft to its file, and detach it."""
    rows = f"SELECT coalesce(sum(estimated_size), 0) FROM duckdb_tables() WHERE database_name = '{CATALOG}'"
    if fetch_one(duck, rows)[0] < _COMPRESSED_ROWS:
        duck.execute("SET force_compression = 'uncompressed'")
    duck.execute("USE memory")
    duck.execute(f"DETACH {CATALOG}")


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The inputs of one mart build."""

    engine_url: str
    mart_path: Path
    draft_path: Path
    as_of: int | str | None
    parties: list[tuple[str, tuple[str, ...]]]
    schema_of: Path | None

    def draft(
        self, manifest: Manifest, extensions: Sequence[Extension], ledger_size: int, memory: int | None
    ) -> tuple[duckdb.DuckDBPyConnection, int]:
        """A connection to a draft with everything but the results of rules, and the run for which its views answer."""
        duck = _open(self.draft_path, ledger_size, memory)
        try:
            try:
                run, up_to_date = self.incremental(duck, manifest, memory)
                schema = True
            except RebuildRequired as reason:
                log.info("full rebuild of %s: %s", self.mart_path.name, reason)
                duck.close()
                duck = _open(self.draft_path, ledger_size, memory)
                run, schema = self.full(duck, memory, small=ledger_size <= _SMALL)
                up_to_date = {partial_refresh.ACCESS_PATHS.view}
            event_selectors.create(duck)
            create_tables(duck)
            for extension in extensions:
                extension.prepare(duck)
            view_loader.create(duck, run, schema=schema, up_to_date=up_to_date)
            for extension in extensions:
                extension.create(duck, run)
        except BaseException:  # an interruption, too: an open draft could not be replaced
            duck.close()
            raise
        return duck, run

    def full(self, duck: duckdb.DuckDBPyConnection, memory: int | None, *, small: bool) -> tuple[int, bool]:
        """Load the whole ledger; returns the run for which the views answer, and whether there are views already."""
        _attach(duck, self.draft_path)
        sources = [path for path in (self.mart_path, self.schema_of) if path is not None]
        copied = any(build_manifest.copy_schema(duck, path) for path in sources)
        if not copied:
            create_schema(duck)
        ledger_reader.copy_all(duck, self.engine_url)
        if not small:
            duck.execute("CHECKPOINT")  # tables that are in the file can leave memory
        run = resolve_as_of(moments(duck), self.as_of).run_id
        policy_tables.create(duck, self.parties)
        change_log.rebuild(duck)
        partial_refresh.full_refresh(duck, run, memory)
        return run, copied

    def incremental(
        self, duck: duckdb.DuckDBPyConnection, expected: Manifest, memory: int | None
    ) -> tuple[int, set[str]]:
        """Update a copy of the published mart; returns the run, and the stored views that are up to date.

        Raises RebuildRequired where only a full rebuild is certain to be correct.
        """
        if not self.mart_path.exists():
            raise RebuildRequired("no previous mart")
        # Reusing the file that the last mart replaced would spare the copy, but a reader may still have it open. File
        # locks do not show this, because a process that opens a file twice and closes it once loses them.
        copy(self.mart_path, self.draft_path)
        try:
            _attach(duck, self.draft_path)
        except duckdb.Error as error:
            raise RebuildRequired(f"the previous mart cannot be read ({type(error).__name__})") from error
        published = build_manifest.check(duck, expected)
        duck.execute("CREATE TABLE memory.main.state_before AS FROM internal.analysis_watermark")
        delta = incremental_load.update(duck, self.engine_url, published, self.as_of)
        run = resolve_as_of(moments(duck), self.as_of).run_id
        policy_tables.update(duck, self.parties, delta.rows, delta.tables_with_deletes)
        change_log.update(duck, delta.since, delta.renamed())
        partial_refresh.refresh_access_paths(duck, published, delta, run, memory)
        up_to_date = {partial_refresh.ACCESS_PATHS.view}
        if partial_refresh.refresh(duck, partial_refresh.FINDING_EPISODES, delta, run, published.as_of):
            up_to_date.add(partial_refresh.FINDING_EPISODES.view)
        log.info("incremental build of %s from run %d: %s", self.mart_path.name, published.last_run, delta.summary())
        return run, up_to_date


def _remove(path: Path) -> None:
    for file in (path, path.with_name(path.name + ".wal")):
        file.unlink(missing_ok=True)


@contextmanager
def _errors_explained(mart_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MartError(
            f"the mart {mart_path} cannot be written ({error.strerror}): create its directory, free disk space or give "
            "this user write permission; the old mart is untouched"
        ) from error
    except duckdb.IOException as error:
        cause = str(error).strip().splitlines()[0]
        raise MartError(
            f"the mart {mart_path} cannot be written: {cause}; create its directory, free disk space or give this user "
            "write permission; the old mart is untouched"
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise MartError(
            f"the mart {mart_path} could not be built: memory or the disk for temporary files is full; free some and run "
            "`kmsledger mart` again; the old mart is untouched"
        ) from error
