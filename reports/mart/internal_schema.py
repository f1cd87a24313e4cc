"""Schema ``internal``: its macros, which the views and the change queries call, and a catalog with some of its facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import duckdb

from models.severities import SEVERITIES, STATUSES
from models.tables import versioned_tables
from reports.access import grant_macros
from reports.connections import new_cursor
from reports.mart.connection import CATALOG

MACROS = (
    "CREATE MACRO internal.in_scope(outcome) AS outcome IN ('complete', 'partial', 'failed')",
    "CREATE MACRO internal.known(since, until, run) AS since <= run AND (until IS NULL OR until > run)",
    """
    CREATE MACRO internal.party_of(type, account, organization, own_account, own_organization, in_organization, is_party) AS
    CASE
      WHEN type = 'service' THEN 'aws_service'
      WHEN type = 'deleted' THEN 'deleted_principal'
      WHEN type = 'public' AND organization IS NULL THEN 'public'
      WHEN organization = own_organization THEN 'own_organization'
      WHEN organization IS NOT NULL THEN 'external_account'
      WHEN type IN ('unknown', 'canonical') OR account IS NULL THEN 'unknown'
      WHEN account = own_account THEN 'own_account'
      WHEN in_organization THEN 'own_organization'
      WHEN is_party THEN 'known_party'
      ELSE 'external_account'
    END
    """,
    # Whether a principal is outside the organization. Millions of access paths are within; a scan skips them by inequality,
    # and reads all columns of all rows for a list of values.
    """
    CREATE MACRO internal.from_outside(access) AS access IN ('public', 'public_via_service', 'external', 'vendor')
      AND access <> 'owner_direct' AND access <> 'owner_delegated' AND access <> 'aws_service'
    """,
    *grant_macros.MACROS,
    *(f"CREATE MACRO {status}(reason) AS {{'status': '{status}', 'reason': reason}}" for status in STATUSES),
    """
    CREATE MACRO verdict_of(met, reason) AS
    {'status': CASE met WHEN true THEN 'pass' WHEN false THEN 'fail' ELSE 'unknown' END, 'reason': reason}
    """,
    """
    CREATE MACRO usability_verdict(usability, reason) AS {'status': CASE usability WHEN 'no_key' THEN 'not_applicable'
      WHEN 'unusable' THEN 'fail' WHEN 'usable' THEN 'pass' ELSE 'unknown' END, 'reason': reason}
    """,
    "CREATE MACRO fail_if(certain, reason) AS {'status': CASE WHEN certain THEN 'fail' ELSE 'unknown' END, 'reason': reason}",
    """
    CREATE MACRO internal.first_messages(message) AS array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.' ELSE '' END
    """,
    """
    CREATE MACRO internal.because(failure_causes, actions) AS CASE WHEN list_has_any(map_keys(failure_causes), actions)
      THEN ' (' || array_to_string(list_transform(list_sort(list_intersect(map_keys(failure_causes), actions)),
        lambda action: action || ': ' || failure_causes[action]), '; ') || ')' ELSE '' END
    """,
    """
    CREATE MACRO internal.undescribed(failure_causes) AS
      unknown('The key could not be described' || internal.because(failure_causes, ['kms:DescribeKey']) || '.')
    """,
    """
    CREATE MACRO internal.selects(tag, pattern, accounts, key_tags, key_description, key_account) AS
      (tag = '' OR CASE
        WHEN key_tags IS NULL THEN NULL
        WHEN contains(tag, '=') THEN coalesce(key_tags[split_part(tag, '=', 1)] = substr(tag, strpos(tag, '=') + 1), false)
        ELSE list_contains(map_keys(key_tags), tag) END)
      AND (pattern = '' OR key_description GLOB pattern)
      AND (accounts = '' OR list_contains(string_split(replace(accounts, ' ', ''), ','), key_account))
    """,
    f"CREATE MACRO internal.severity_rank(severity) AS list_position({list(SEVERITIES)}, severity)",
    f"CREATE MACRO internal.highest(severity) AS {list(SEVERITIES)}[min(internal.severity_rank(severity))]",
    """
    CREATE MACRO internal.counted(number, singular, plural) AS
      number || ' ' || CASE number WHEN 1 THEN singular ELSE plural END
    """,
    """
    CREATE MACRO internal.first_of(names, shown) AS array_to_string(names[1:shown], ', ')
      || CASE WHEN len(names) > shown THEN ' and ' || (len(names) - shown) || ' more' ELSE '' END
    """,
    "CREATE MACRO internal.first_names(name) AS internal.first_of(list_sort(list(DISTINCT name)), 3)",
    # For reports.
    """
    CREATE MACRO internal.days_from_now(days) AS CASE days WHEN -1 THEN 'yesterday' WHEN 0 THEN 'today' WHEN 1 THEN 'tomorrow'
      ELSE CASE WHEN days < 0 THEN -days || ' days ago' ELSE 'in ' || days || ' days' END END
    """,
    """
    CREATE MACRO internal.status_change(status, first_failed, since, reopened) AS CASE WHEN status = 'unknown' THEN 'unknown'
      WHEN status = 'fail' AND first_failed < since THEN 'returned' WHEN status = 'fail' AND reopened > 0 THEN 'reopened'
      WHEN status = 'fail' THEN 'new' END
    """,
)
"""In order of creation: later macros use earlier ones. Those without a schema are for rules: they return a verdict."""


def create_schema(duck: duckdb.DuckDBPyConnection, macros: Sequence[str] = MACROS) -> None:
    """Create schema ``internal`` with macros in the catalog in use."""
    duck.execute("; ".join(("CREATE SCHEMA internal", *macros)))


def _macros_in(sql: str) -> list[str]:
    """The macros that SQL calls, and those that these call. Creating all takes longer than most queries of small marts."""
    chosen: list[str] = []
    for macro in reversed(MACROS):
        if f"{macro.split('(')[0].split()[-1]}(" in sql:
            chosen.insert(0, macro)
            sql += macro
    return chosen


@contextmanager
def filtered_catalog(
    duck: duckdb.DuckDBPyConnection, table_filter: Callable[[str], str], sql: str
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which ``sql`` sees only the selected facts: a catalog with a filtered view of each table that it names.

    ``table_filter`` returns the condition on the rows of a fact table; other tables are complete. Closing the connection drops
    its temporary tables.
    """
    duck.execute("ATTACH ':memory:' AS filtered (COMPRESS)")
    cursor = new_cursor(duck)
    try:
        cursor.execute("USE filtered")
        create_schema(cursor, _macros_in(sql))
        query = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'internal'"
        existing = {name for (name,) in cursor.execute(query).fetchall()}
        versioned = versioned_tables()
        for name in existing.intersection(re.findall(r"\binternal\.(\w+)", sql)):
            where = table_filter(name) if name in versioned else "true"
            cursor.execute(f"CREATE VIEW internal.{name} AS SELECT * FROM {CATALOG}.internal.{name} WHERE {where}")
        yield cursor
    finally:
        cursor.close()
        duck.execute("DETACH filtered")
