"""The views in PostgreSQL, for tools that cannot read DuckDB: those whose definition is valid in both engines.

Schema ``kmsledger`` has the views. Schema ``kmsledger_base`` has what their SQL refers to: the ledger's tables with times
in UTC, and the functions that are macros in the mart. The views show the latest run that ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Table, make_url

from models.tables import PolicyDocument, Run, ScopeCoverage, versioned_tables
from models.tables.runs import Cause
from models.types import UtcDateTime
from models.versioned import Base
from reports.mart.connection import quoted
from reports.mart.errors import MartError
from reports.mart.schema import declared
from reports.mart.view_loader import _HISTORIES, _HISTORY_SELECT, views

SCHEMA = "kmsledger"
BASE = "kmsledger_base"
VIEWS = (
    "runs",
    "accounts",
    "key_tags",
    "resource_tags",
    "aliases",
    "key_rotations",
    "custom_key_stores",
    "resources",
    "resource_keys",
    "coverage",
)
"""Views of views/*.sql that PostgreSQL has too, besides all histories; the others need tables that only the mart computes."""
_LIST = re.compile(r"CAST\(CAST\(([a-z_.]+) AS JSON\) AS VARCHAR\[\]\)")


def statements() -> Iterator[str]:
    """The SQL that creates schemas, views and comments, and replaces those of an earlier version."""
    yield f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
    yield f"DROP SCHEMA IF EXISTS {BASE} CASCADE"
    yield f"CREATE SCHEMA {BASE}"
    yield f"CREATE SCHEMA {SCHEMA}"
    tables: tuple[type[Base], ...] = (*versioned_tables().values(), Run, ScopeCoverage, PolicyDocument)
    for mapped in tables:
        table = mapped.__table__
        assert isinstance(table, Table)  # noqa: S101 - for the type checker: every fact table is a table
        columns = ", ".join(
            f'"{one.name}" AT TIME ZONE \'UTC\' AS "{one.name}"'
            if isinstance(one.type, UtcDateTime)
            else f'"{one.name}"'
            for one in table.columns
        )
        yield f'CREATE VIEW {BASE}."{table.name}" AS SELECT {columns} FROM "{table.name}"'
    causes = ", ".join(f"({quoted(one.value)}, {quoted(one.text)})" for one in Cause)
    yield f"CREATE VIEW {BASE}.gap_cause AS SELECT * FROM (VALUES {causes}) AS causes (cause, text)"
    yield from _functions()
    described = {relation.name: relation for relation in declared()}
    for name, select in selects():
        yield f"CREATE VIEW {SCHEMA}.{name} AS {select}"
        yield f"COMMENT ON VIEW {SCHEMA}.{name} IS {quoted(described[name].about)}"
        for column in described[name].columns:
            yield f'COMMENT ON COLUMN {SCHEMA}.{name}."{column.name}" IS {quoted(column.about)}'


def selects() -> Iterator[tuple[str, str]]:
    """Names and SELECTs of the views, in PostgreSQL's dialect."""
    for view in views():
        if view.name in VIEWS:
            yield view.name, translated(view.select)
    for name, one in _HISTORIES.items():
        history = _HISTORY_SELECT.format(columns=one.columns, table=one.table, source=one.source, where=one.where)
        yield name, translated(history)


def translated(select: str) -> str:
    """Translate a SELECT of the mart to PostgreSQL: ledger tables, the run of the views, lists stored as JSON."""
    moment = f"(SELECT {BASE}.as_of_run())"
    named = re.sub(r"\binternal\.", f"{BASE}.", re.sub(r"\bas_of_run\b", moment, select))
    return _LIST.sub(rf"{BASE}.words(\1)", named)


def create(url: str) -> int:
    """Create the schemas in the ledger's database in one transaction; returns the number of views. Raises MartError."""
    if make_url(url).get_backend_name() != "postgresql":
        raise MartError(
            "the ledger is not in PostgreSQL, which the views for BI tools require; the mart (report.mart) has all views"
        )
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from models.store.engine import check, connect

    engine = connect(url, must_exist=True)
    try:
        check(engine)
        with engine.begin() as connection:
            for statement in statements():
                connection.execute(text(statement.replace(":", "\\:")))
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise MartError(
            f"the views cannot be created in PostgreSQL: {cause}; have an administrator who may create schemas run the "
            "output of `kmsledger export postgresql --print`"
        ) from error
    finally:
        engine.dispose()
    return len(list(selects()))


def _functions() -> Iterator[str]:
    # Readers of the views need no rights on the ledger's tables: this function reads one of them with its owner's rights.
    yield (
        f"CREATE FUNCTION {BASE}.as_of_run() RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER "
        f"SET search_path = {BASE}, pg_temp AS $$ SELECT coalesce(max(run_id) FILTER (WHERE status IN ('complete', 'partial')), "
        f"max(run_id)) FROM {BASE}.run $$"
    )
    yield (
        f"CREATE FUNCTION {BASE}.known(since integer, until integer, run integer) RETURNS boolean LANGUAGE sql IMMUTABLE "
        "AS $$ SELECT since <= run AND (until IS NULL OR until > run) $$"
    )
    yield (
        f"CREATE FUNCTION {BASE}.words(list text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT "
        "AS $$ SELECT ARRAY(SELECT json_array_elements_text(CAST(list AS json))) $$"
    )
