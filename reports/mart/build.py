"""The mart: a DuckDB file with the whole ledger and the analysts' views, rebuilt from the store and swapped in at once."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from models.settings import Settings
from models.store.engine import check, connect
from reports.mart import (
    build_manifest,
    change_log,
    event_selectors,
    incremental_load,
    load,
    partial_refresh,
    policy_tables,
    view_loader,
)
from reports.mart.as_of import moments, resolve
from reports.mart.build_manifest import DoubtError
from reports.mart.connection import CATALOG, quoted
from reports.mart.direct_io_copy import copy
from reports.mart.errors import MartError
from reports.mart.macros import MACROS
from reports.mart.stale_files import remove_stale_files
from reports.rules import framework_loader, runner, waivers
from reports.rules.loader import Rule, load_rules, rule_rows
from reports.vendors import evaluate

log = logging.getLogger(__name__)

_SCHEMA = "ledger"
_STORAGE = "v1.0.0"
"""An old storage version: DuckDB clients of the last years open the file."""


@dataclass(frozen=True, slots=True)
class MartInfo:
    """A mart that was published: where, and as of which run its views answer."""

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
    rules: Sequence[Rule] | None = None,
) -> MartInfo:
    """Rebuild the mart from the ledger and replace the old one; who has that open keeps it.

    ``as_of`` is the run or date that the views answer for (see :func:`reports.mart.as_of.resolve`), by default the latest
    run that ended. ``rules`` are those that view rules tells of, by default those in force. Raises MartError, QueryError or
    DatabaseError.
    """
    with building(engine_url, mart_path, settings, as_of=as_of, rules=rules) as mart:
        return mart.info()


@dataclass(frozen=True, slots=True)
class Building:
    """A mart that is not yet published."""

    duck: duckdb.DuckDBPyConnection
    path: Path
    engine_url: str
    as_of: int

    def reload_findings(self) -> None:
        """Take the findings over from the store again, after the rules ran."""
        incremental_load.reload(self.duck, self.engine_url, ("finding", "rule_result"), self.as_of)
        if not partial_refresh.renew(self.duck, partial_refresh.TURNS, self.as_of):
            view_loader.restore(self.duck, self.as_of, {partial_refresh.TURNS.view})

    def info(self) -> MartInfo:
        """What the mart holds."""
        query = (
            "SELECT (SELECT started_at FROM ledger.run WHERE run_id = $run), (SELECT count(*) FROM keys), "
            "(SELECT coalesce(sum(pass + fail + unknown + not_applicable + waived), 0) FROM rule_results)"
        )
        row = self.duck.execute(query, {"run": self.as_of}).fetchone()
        if row is None:
            raise MartError("the mart is empty after it was built: report this as a bug")
        return MartInfo(self.path, self.as_of, row[0].replace(tzinfo=dt.UTC), row[1], row[2])


@contextmanager
def building(
    engine_url: str,
    mart_path: Path,
    settings: Settings,
    *,
    as_of: int | str | None = None,
    rules: Sequence[Rule] | None = None,
) -> Iterator[Building]:
    """Build beside the target; publish when the block ends without an error."""
    rules = load_rules(settings) if rules is None else rules
    engine = connect(engine_url, must_exist=True)
    try:
        check(engine)
    finally:
        engine.dispose()
    if mart_path.stem in {_SCHEMA, "main", "system", "temp"}:
        raise MartError(
            f"the mart cannot be named {mart_path.name}: DuckDB takes the file's name for the database's, and a schema "
            f"inside has that name; set report.mart to another name"
        )
    remove_stale_files(mart_path)
    beside = mart_path.with_name(f".{mart_path.name}.{os.getpid()}.new")
    parties = [(party.name, party.accounts) for party in settings.parties]
    task = _Task(engine_url, mart_path, beside, as_of, parties, rules)
    now = build_manifest.wanted(engine_url, parties)
    with _explained(mart_path):
        duck = _opened(beside)
        try:
            try:
                run, kept = task.go_on(duck, now)
            except DoubtError as doubt:
                log.info("the mart %s is built as a whole: %s", mart_path.name, doubt)
                duck.close()
                duck = _opened(beside)
                run, kept = task.whole(duck), {partial_refresh.PATHS.view}
            event_selectors.create(duck)
            evaluate.prepare(duck)
            framework_loader.prepare(duck)
            runner.prepare(duck)
            waivers.prepare(duck, settings, rules)
            view_loader.create(duck, run, kept=kept)
            evaluate.create(duck, settings, run)
            yield Building(duck, mart_path, engine_url, run)
            runs = moments(duck)
            latest = resolve(runs).run_id == run
            build_manifest.keep(duck, replace(now, as_of=run, last_run=runs[-1].run_id, latest=latest))
            duck.execute("USE memory")
            duck.execute(f"DETACH {CATALOG}")
            beside.replace(mart_path)
        finally:
            duck.close()
            _remove(beside)


def _opened(beside: Path) -> duckdb.DuckDBPyConnection:
    """A connection with our limits and no mart yet."""
    _remove(beside)
    duck = duckdb.connect()
    # A program that has no file of its own (a process that another one started) is taken for a notebook.
    duck.execute("SET enable_progress_bar = false")
    # As a share of the machine's memory the default would depend on where it runs; DuckDB spills to disk beyond.
    duck.execute("SET memory_limit = '2GB'")
    duck.execute(f"SET temp_directory = {quoted(str(beside) + '.tmp')}")
    duck.execute("SET preserve_insertion_order = false")
    return duck


def _attach(duck: duckdb.DuckDBPyConnection, beside: Path) -> None:
    # Nobody but us opens the file before it is whole: what a crash leaves of it is thrown away, and needs no log.
    options = f"STORAGE_VERSION '{_STORAGE}', RECOVERY_MODE 'NO_WAL_WRITES'"
    duck.execute(f"ATTACH {quoted(str(beside))} AS {CATALOG} ({options})")
    duck.execute(f"USE {CATALOG}")


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be built of what."""

    engine_url: str
    mart_path: Path
    beside: Path
    as_of: int | str | None
    parties: list[tuple[str, tuple[str, ...]]]
    rules: Sequence[Rule]

    def whole(self, duck: duckdb.DuckDBPyConnection) -> int:
        """Take over the whole ledger; the run that is meant."""
        _attach(duck, self.beside)
        duck.execute(f"CREATE SCHEMA {_SCHEMA}")
        for macro in MACROS:
            duck.execute(macro)
        load.load(duck, self.engine_url, load.tables())
        run = resolve(moments(duck), self.as_of).run_id
        policy_tables.derive(duck, self.parties, rule_rows(self.rules))
        change_log.create_all(duck)
        partial_refresh.fill_paths(duck, run)
        return run

    def go_on(self, duck: duckdb.DuckDBPyConnection, now: build_manifest.Made) -> tuple[int, set[str]]:
        """Go on from a copy of the published mart: the run that is meant, and the stored views that are up to date.

        Raises DoubtError where only a mart that is built as a whole is sure to be right.
        """
        made = build_manifest.check(duck, self.mart_path, now)
        duck.execute("CREATE SCHEMA memory.ledger")
        load.load(duck, self.engine_url, [table for table in load.tables() if table.name == "run"])
        runs = moments(duck)
        run = resolve(runs, self.as_of).run_id
        if run != resolve(runs).run_id:
            raise DoubtError("an earlier run is asked for")
        build_manifest.compare_runs(duck, "memory.main.runs_before", "memory.ledger.run", made.last_run)
        duck.execute("DROP SCHEMA memory.ledger CASCADE")
        # Not the file that the last mart replaced, though that would spare the copy: somebody may still have it open, and the
        # locks that would tell are given up by a process that has it open twice and closes one.
        copy(self.mart_path, self.beside)
        _attach(duck, self.beside)
        duck.execute("CREATE TABLE memory.main.state_before AS FROM ledger.access_state")
        found = incremental_load.update(duck, self.engine_url, made)
        policy_tables.extend(duck, self.parties, rule_rows(self.rules), incremental_load.came, found.taken_back)
        change_log.renew(duck, found.since, incremental_load.RENAMED)
        partial_refresh.renew_paths(duck, made, found, run)
        kept = {partial_refresh.PATHS.view}
        if partial_refresh.renew(duck, partial_refresh.TURNS, run, made.as_of):
            kept.add(partial_refresh.TURNS.view)
        log.info("the mart %s goes on from run %d: %s", self.mart_path.name, made.last_run, found.told())
        return run, kept


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".wal")):
        one.unlink(missing_ok=True)


@contextmanager
def _explained(mart_path: Path) -> Iterator[None]:
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
