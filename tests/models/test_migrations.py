"""Migrations: the schema of both engines, upgrades, downgrades, and databases with another schema."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from models.store import engine
from models.store.engine import DatabaseError, check, connect, current, head, upgrade
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, merge
from models.tables import KeyLastUse, versioned_tables
from models.versioned import Base

ARN = "arn:aws:kms:eu-west-1:111122223333:key/one"
RENAMED = import_module("migrations.versions.0008_standard_names")._TABLES
"""Tables that the standard names renamed, old to new."""


@pytest.fixture
def bare(bare_url: str) -> Iterator[Engine]:
    engine = connect(bare_url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def downgrade(connection: Connection, revision: str) -> None:
    config = engine._config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def upgrade_to(connection: Connection, revision: str) -> None:
    config = engine._config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def content_of(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
    return {name: sorted(map(tuple, connection.execute(text(f'SELECT * FROM "{name}"'))), key=str) for name in names}


def test_the_migrations_match_the_models(ledger: Engine) -> None:
    """Tables, columns, types and indexes of the migrations equal those of the models."""
    with ledger.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    assert tables(ledger) == {*Base.metadata.tables, "alembic_version"}


def test_open_versions_are_unique_in_the_database(ledger: Engine) -> None:
    """Each fact table has a unique partial index over the natural key of open versions, which autogenerate does not compare."""
    for name, model in versioned_tables().items():
        unique = [index for index in inspect(ledger).get_indexes(name) if index["unique"]]
        assert [index["column_names"] for index in unique] == [list(model.natural_key)]
        for index in inspect(ledger).get_indexes(name):
            (where,) = [value for key, value in index["dialect_options"].items() if key.endswith("_where")]
            ended = index["column_names"] == ["valid_to"]
            assert f"valid_to is {'not ' if ended else ''}null" in str(where).lower(), index["name"]


def test_upgrading_twice_changes_nothing(ledger: Engine) -> None:
    """The upgrade at the start of every crawl does not change a current ledger."""
    with ledger.begin() as connection:
        connection.execute(text("INSERT INTO policy_document VALUES (:hash, 'a', 'b')"), {"hash": b"1" * 16})
    upgrade(ledger)
    check(ledger)
    with ledger.connect() as connection:
        assert current(connection) == head()
        assert connection.execute(text("SELECT count(*) FROM policy_document")).scalar_one() == 1


def test_a_downgrade_removes_every_table(ledger: Engine) -> None:
    """A downgrade to base removes every table, and the ledger can be created again."""
    with ledger.begin() as connection:
        downgrade(connection, "base")
    assert tables(ledger) == {"alembic_version"}
    upgrade(ledger)
    check(ledger)


def test_an_empty_database_is_rejected_with_the_fix(bare: Engine) -> None:
    """The error for a database without a ledger names the command to run."""
    with pytest.raises(DatabaseError, match=r"is empty: run `kmsledger crawl`, or `kmsledger db upgrade`, first"):
        check(bare)
    assert tables(bare) == set()


def test_a_newer_schema_is_rejected_and_unchanged(ledger: Engine) -> None:
    """An old program neither reads nor changes a newer database, and the error says what to update."""
    with ledger.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (upgrade, check):
        with pytest.raises(DatabaseError, match=r"written by a newer kmsledger \(schema 9999\): update this program"):
            refused(ledger)
    with ledger.connect() as connection:
        assert current(connection) == "9999"


def test_an_older_schema_is_rejected_until_upgraded(ledger: Engine) -> None:
    """The error for an older schema names the command to run."""
    with ledger.begin() as connection:
        downgrade(connection, "-1")
        older = current(connection)
    with pytest.raises(
        DatabaseError, match=rf"has schema {older}, this program needs {head()}: run `kmsledger db upgrade`"
    ):
        check(ledger)
    upgrade(ledger)
    check(ledger)


def test_a_ledger_of_the_first_schema_keeps_its_facts(bare: Engine) -> None:
    """An upgrade from the first schema keeps every row, and new facts can be merged."""
    with bare.begin() as connection:
        upgrade_to(connection, "0001")
        run_row = {"started_at": "2026-11-20 03:00:00", "status": "complete", "version": "0.1.0"}
        columns = "started_at, status, version, accounts, scopes, calls, gaps"
        connection.execute(
            text(f"INSERT INTO run ({columns}) VALUES (:started_at, :status, :version, 1, 1, 1, 0)"), run_row
        )
        for table, values in (
            ("key", {"key_arn": ARN, "key_id": "one", "account_id": "111122223333", "region": "eu-west-1"}),
            ("tag", {"resource_arn": ARN, "tag_key": "Owner", "tag_value": "shop"}),
        ):
            row = {**values, "valid_from": 1, "content": b"0" * 16}
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(row)})"), row)
        before = {RENAMED.get(name, name): rows for name, rows in content_of(connection).items()}
    assert before["key"]
    before["run"] = [(*row, None, None) for row in before["run"]]  # it was not limited to accounts or regions
    upgrade(bare)
    check(bare)
    with bare.begin() as connection:
        after = content_of(connection)
        assert {name: after.pop(name) for name in before} == before
        families = ("iam_", "access_", "trail", "shadow_trail", "policy_lint", "analysis_watermark")
        of_families = {table.name for table in Base.metadata.sorted_tables if table.name.startswith(families)}
        later = {
            "key_last_use",
            "key_last_use_gap",
            "key_last_use_poll",
            "resource_policy",
            "resource_replica",
            "key_analysis",
            "rule_result",
            *of_families,
        }
        assert after == {name: [] for name in later}
        batch = Batch(
            last_use_polls=[LastUsePoll(ARN, "111122223333", "eu-west-1", dt.datetime(2026, 11, 21, tzinfo=dt.UTC))]
        )
        unused = {"operation": None, "used_at": None, "cloudtrail_event_id": None, "key_created_at": None}
        batch.add(KeyLastUse, key_arn=ARN, tracking_started_at=dt.datetime(2026, 3, 11, tzinfo=dt.UTC), **unused)
        assert merge(connection, 1, batch).opened == 1
        assert len(content_of(connection)["key_last_use_poll"]) == 1


def test_only_current_and_past_problems_stay_findings(bare: Engine) -> None:
    """Findings that were ever a problem keep all versions, those that always passed are deleted; the downgrade works."""
    with bare.begin() as connection:
        upgrade_to(connection, "0005")
        columns = "rule_id, resource_arn, severity, status, reason, valid_from, valid_to, content"
        rows = [
            ("fixed", "fail", 1, 2),
            ("fixed", "pass", 2, None),
            ("fine", "pass", 1, None),
            ("odd", "unknown", 1, None),
        ]
        rows += [("none", "not_applicable", 1, 3), ("ended", "fail", 1, 3)]
        for arn, status, since, until in rows:
            values = {"arn": arn, "status": status, "since": since, "until": until, "content": arn.encode().ljust(16)}
            insert = (
                f"INSERT INTO finding ({columns}) VALUES ('r', :arn, 'low', :status, 'So.', :since, :until, :content)"
            )
            connection.execute(text(insert), values)
    upgrade(bare)
    with bare.begin() as connection:
        kept = connection.execute(
            text("SELECT resource_arn, status, unwaived_status, waiver FROM finding ORDER BY 1, 2")
        ).all()
        assert [tuple(row) for row in kept] == [
            ("ended", "fail", "fail", None),
            ("fixed", "fail", "fail", None),
            ("fixed", "pass", "pass", None),
            ("odd", "unknown", "unknown", None),
        ]
        connection.execute(text("UPDATE finding SET status = 'waived', waiver = 'w' WHERE resource_arn = 'ended'"))
        downgrade(connection, "0005")
        assert connection.execute(text("SELECT DISTINCT status FROM finding ORDER BY 1")).scalars().all() == [
            "fail",
            "pass",
            "unknown",
        ]
    upgrade(bare)
    check(bare)


def test_a_failed_migration_is_rolled_back(bare: Engine) -> None:
    """Tables are created in one transaction: a conflict rolls back all of them."""
    with bare.begin() as connection:
        connection.execute(text("CREATE TABLE scope_coverage (mine INTEGER)"))
    with pytest.raises(DatabaseError, match="scope_coverage"):
        upgrade(bare)
    assert tables(bare) == {"scope_coverage"}


def test_the_revisions_are_those_of_alembic(ledger: Engine) -> None:
    """Names of the migrations' files give the revisions, so that Alembic is loaded only to migrate."""
    scripts = ScriptDirectory.from_config(engine._config())
    assert head() == scripts.get_current_head()
    assert set(engine._revisions()) == {script.revision for script in scripts.walk_revisions()}
    with ledger.connect() as connection:
        assert current(connection) == MigrationContext.configure(connection).get_current_revision() == head()


def test_a_current_ledger_is_checked_without_alembic(sqlite_url: str) -> None:
    """Upgrading and checking a ledger with the current schema does not load Alembic."""
    program = (
        "import sys\nfrom models.store.engine import check, connect, upgrade\n"
        f"engine = connect({sqlite_url!r})\nupgrade(engine)\ncheck(engine)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'alembic', 'mako'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.deep
def test_concurrent_upgrades_are_serialized(bare_url: str) -> None:
    """Of several programs that start with a new database one creates the tables and the others wait."""
    program = (
        "import sys, alembic.command\nfrom models.store.engine import check, connect, upgrade\n"
        f"engine = connect({bare_url!r})\nprint(flush=True)\nsys.stdin.readline()\nupgrade(engine)\ncheck(engine)\n"
    )
    programs = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for started in programs:
        assert started.stdout
        assert started.stdout.readline() == b"\n"
    for started in programs:
        assert started.stdin
        started.stdin.write(b"\n")
        started.stdin.flush()
    for started in programs:
        started.communicate(timeout=60)
    assert [started.returncode for started in programs] == [0, 0, 0]
