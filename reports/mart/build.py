"""The mart: a DuckDB file with the whole ledger and the analysts' views, rebuilt from the store and swapped in at once."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from models.database import check, connect
from models.settings import Settings
from reports.compliance import frameworks, judge, vendors, waivers
from reports.compliance.rules import Rule, load_rules, rule_rows
from reports.mart import changes, derive, event_selectors, load, shapes, views
from reports.mart.errors import MartError
from reports.mart.moments import moments, resolve
from reports.mart.reader import CATALOG, quoted

_SCHEMA = "ledger"
_STORAGE = "v1.0.0"
"""An old storage version: DuckDB clients of the last years open the file."""
MACROS = (
    "CREATE MACRO ledger.known(since, until, run) AS since <= run AND (until IS NULL OR until > run)",
    """
    CREATE MACRO ledger.party_of(type, account, organization, own_account, own_organization, in_organization, is_party) AS
    CASE
      WHEN type = 'service' THEN 'aws service'
      WHEN type = 'deleted' THEN 'deleted principal'
      WHEN type = 'public' AND organization IS NULL THEN 'public'
      WHEN organization = own_organization THEN 'own organization'
      WHEN organization IS NOT NULL THEN 'outside account'
      WHEN type IN ('unknown', 'canonical') OR account IS NULL THEN 'unknown'
      WHEN account = own_account THEN 'own account'
      WHEN in_organization THEN 'own organization'
      WHEN is_party THEN 'known party'
      ELSE 'outside account'
    END
    """,
    *shapes.MACROS,
)


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

    ``as_of`` is the run or date that the views answer for (see :func:`reports.mart.moments.resolve`), by default the latest
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
        again = [table for table in load.tables() if table.name in {"finding", "rule_result"}]
        load.load(self.duck, self.engine_url, again)
        views.restore(self.duck, self.as_of, {"finding_life"})

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
    beside = mart_path.with_name(f".{mart_path.name}.{os.getpid()}.new")
    with _explained(mart_path):
        _remove(beside)
        duck = duckdb.connect()
        try:
            # As a share of the machine's memory the default would depend on where it runs; DuckDB spills to disk beyond.
            duck.execute("SET memory_limit = '2GB'")
            duck.execute(f"SET temp_directory = {quoted(str(beside) + '.tmp')}")
            duck.execute("SET preserve_insertion_order = false")
            duck.execute(f"ATTACH {quoted(str(beside))} AS {CATALOG} (STORAGE_VERSION '{_STORAGE}')")
            duck.execute(f"USE {CATALOG}")
            duck.execute(f"CREATE SCHEMA {_SCHEMA}")
            for macro in MACROS:
                duck.execute(macro)
            load.load(duck, engine_url, load.tables())
            run = resolve(moments(duck), as_of).run_id
            parties = [(party.name, party.accounts) for party in settings.parties]
            derive.derive(duck, parties, rule_rows(rules))
            event_selectors.create(duck)
            changes.create(duck)
            vendors.prepare(duck)
            frameworks.prepare(duck)
            judge.prepare(duck)
            waivers.prepare(duck, settings, rules)
            views.create(duck, run)
            vendors.create(duck, settings, run)
            yield Building(duck, mart_path, engine_url, run)
            duck.execute("USE memory")
            duck.execute(f"DETACH {CATALOG}")
            beside.replace(mart_path)
        finally:
            duck.close()
            _remove(beside)


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
