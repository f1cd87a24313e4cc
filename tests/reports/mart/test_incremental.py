"""An incremental build equals a full rebuild, row by row."""

from __future__ import annotations

import copy
import datetime as dt
import logging
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import Engine, delete, event, update

from models.settings import Settings
from models.store.engine import connect as store
from models.store.retention import prune
from models.store.scd2_merge import Batch, merge
from models.tables import Alias, Gap, Key, KeyGrant, KeyMetadata, KeyRotation, Resource, Run, Tag
from reports import ledger_reader
from reports.access.analysis.stage import analyze_access
from reports.mart import change_log, incremental_load
from reports.mart.build import build
from reports.pipeline import refresh
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, one_rule_of_each_family, only, settings_of
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import DATA, SHOP, sample_world

Contents = dict[str, list[str]]
_DEFINITIONS = {
    "program": "SELECT program, as_of FROM internal.build_manifest",
    "run of the views": "SELECT internal.view_run()",
    "views": "SELECT schema_name, view_name, column_count FROM duckdb_views() WHERE NOT internal",
    "macros": "SELECT schema_name, function_name, parameters FROM duckdb_functions() WHERE macro_definition IS NOT NULL "
    "AND NOT internal",
}
"""Queries of everything that decides the rows of views besides tables: a program has one definition of each view."""
_COLUMNS = dict.fromkeys(incremental_load.RESULTS, "* EXCLUDE (version_id)")


def everything(path: Path, *, rows_of_views: bool = False) -> Contents:
    """Every table of a mart, the ledger's copies included, with its rows sorted, and what decides the rows of its views.

    Planning the queries of all views takes as long as a build. The ids of results are
    unknown to the mart until the build after the one that recorded them.
    """
    connection = duckdb.connect(str(path), read_only=True)
    names = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name <> 'build_manifest' "
        "AND (table_type = 'BASE TABLE' OR $views)",
        {"views": rows_of_views},
    ).fetchall()
    found = {
        f"{schema}.{name}": sorted(
            map(str, connection.execute(f'SELECT {_COLUMNS.get(name, "*")} FROM {schema}."{name}"').fetchall())
        )
        for schema, name in names
    }
    for kind, query in _DEFINITIONS.items():
        found[kind] = sorted(map(str, connection.execute(query).fetchall()))
    connection.close()
    return found


@pytest.fixture
def build_log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """The last log message of the mart build."""
    caplog.set_level(logging.INFO, logger="reports.mart.build")
    return lambda: caplog.messages[-1]


@dataclass(frozen=True)
class Built:
    """A ledger of one run and its mart, in the folder where each test finds them again: a mart belongs to one ledger URL."""

    folder: Path
    files: Path
    """A folder with copies of both."""
    world: LedgerBuilder
    settings: Settings


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder, files = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("files")
    world = sample_world(folder / "ledger.db")
    world.crawl()
    settings = settings_of(
        database=world.url, report={"mart": folder / "mart.duckdb"}, rules=only(*one_rule_of_each_family())
    )
    renew(settings)
    shutil.copytree(folder, files, dirs_exist_ok=True)
    return Built(folder, files, world, settings)


@pytest.fixture
def folder(built: Built) -> Path:
    """The folder with a ledger of one run and its mart."""
    shutil.rmtree(built.folder)
    shutil.copytree(built.files, built.folder)
    return built.folder


@pytest.fixture
def world(built: Built, folder: Path) -> LedgerBuilder:
    assert built.world.url == f"sqlite:///{folder / 'ledger.db'}"
    return copy.deepcopy(built.world)


@pytest.fixture
def settings(built: Built, folder: Path) -> Settings:
    assert built.settings.report.mart == folder / "mart.duckdb"
    return built.settings


def renew(settings: Settings) -> None:
    """Run the stage after a crawl without the rules, which do not depend on how the mart was built."""
    analyze_access(settings)
    build(settings.database, settings.report.mart, settings)


def expect_equal(settings: Settings, tmp_path: Path, *, rules: bool = False, rows_of_views: bool = False) -> None:
    """Update the mart and compare it with a full rebuild."""
    refresh(settings) if rules else renew(settings)
    incremental = everything(settings.report.mart, rows_of_views=rows_of_views)
    other = settings.model_copy(
        update={"report": settings.report.model_copy(update={"mart": tmp_path / "full.duckdb"})}
    )
    other.report.mart.unlink(missing_ok=True)
    offer_schema(other.report.mart)
    refresh(other) if rules else renew(other)
    full = everything(other.report.mart, rows_of_views=rows_of_views)
    assert set(incremental) == set(full)
    for name, rows in full.items():
        assert incremental[name] == rows, name


def random_run(world: LedgerBuilder, chance: random.Random) -> None:
    """Apply a few random changes."""
    keys = [row["key_arn"] for row in world.facts[Key].values()]
    for _ in range(chance.randint(0, 12)):
        arn = chance.choice(keys)
        _, _, _, region, account, _ = arn.split(":", 5)
        kind = chance.randrange(14)
        if kind == 0 and (arn,) in world.facts[KeyMetadata]:
            world.change(KeyMetadata, arn, state=chance.choice(["Enabled", "Disabled", "PendingDeletion"]))
        elif kind == 1:
            vendor = f"arn:aws:iam::{chance.choice(['999900001111', SHOP, DATA])}:root"
            shared = {"Sid": f"S{chance.randrange(3)}", "Effect": "Allow", "Principal": {"AWS": vendor}, "Action": "kms:*",
                      "Resource": "*"}  # fmt: skip
            world.policy(arn, [root_statement(account), shared])
        elif kind == 2:
            world.grant(
                arn, f"g{chance.randrange(3)}", grantee_principal=f"arn:aws:iam::{account}:role/r{chance.randrange(4)}"
            )
        elif kind == 3:
            grants = [grant for grant in world.facts.get(KeyGrant, {}) if grant[0] == arn]
            if grants:
                world.remove(KeyGrant, *chance.choice(grants))
        elif kind == 4:
            world.tag(arn, Owner=f"team-{chance.randrange(3)}")
        elif kind == 5:
            world.facts.get(Tag, {}).pop((arn, "Owner"), None)
        elif kind == 6:
            world.alias(f"alias/x{chance.randrange(3)}", arn)
        elif kind == 7:
            aliases = list(world.facts.get(Alias, {}))
            world.remove(Alias, *chance.choice(aliases))
        elif kind == 8:
            world.gap(
                account, region, chance.choice(["kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags"]), arn
            )
        elif kind == 9 and world.facts.get(Gap):
            world.remove(Gap, *chance.choice(list(world.facts[Gap])))
        elif kind == 10:
            name = f"00000000-0000-4000-9000-{chance.randrange(5):012d}"
            keys.append(world.key(account, region, name, policy=chance.choice(["default", None])))
        elif kind == 11 and len(world.facts[Key]) > 3:
            world.remove(Key, arn)
            keys.remove(arn)
        elif kind == 12:
            bucket = chance.choice(list(world.facts[Resource]))[0]
            world.change(Resource, bucket, name=f"name-{chance.randrange(9)}", encryption=chance.choice(["a", "b"]))
            world.uses(bucket, arn)
        elif kind == 13 and (arn,) in world.facts[KeyRotation]:
            world.change(KeyRotation, arn, status=chance.choice(["enabled", "disabled"]))
        else:
            scope = chance.choice(list(world.outcomes))
            world.outcomes[scope] = chance.choice([("complete", None), ("failed", "unreachable"), ("partial", None)])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.deep) for seed in (1, 2))])
def test_random_runs(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, build_log: Callable[[], str], seed: int
) -> None:
    """After runs with changes of all kinds, gaps and failed scopes, an incremental build equals a full rebuild."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    if seed == 1:
        settings = settings.model_copy(update={"rules": settings_of().rules})
    for _ in range(3 if seed else 1):
        random_run(world, chance)
        world.crawl()
        renew(settings)
        assert "incremental build of" in build_log()
    expect_equal(settings, tmp_path, rules=seed == 1)
    if seed == 2:  # the rules run for the same run
        expect_equal(settings, tmp_path, rules=True, rows_of_views=True)


def test_nothing_is_read_back(world: LedgerBuilder, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run reads no table of the ledger after it wrote to it.

    Except for the results of the access analysis, which the mart loads as facts: its stage ends before the mart is built.
    """
    steps: list[tuple[str, str]] = []
    copy_table = ledger_reader._copy

    def record_copy(duck: duckdb.DuckDBPyConnection, source: Any, query: str, *rest: str) -> None:
        steps.extend(("read", name) for name in re.findall(r'FROM "(\w+)"', query))
        copy_table(duck, source, query, *rest)

    def record_write(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        written = re.match(r"(?:INSERT|UPDATE|DELETE)(?: OR ROLLBACK)?(?: INTO| FROM)? (\w+)", statement)
        if written and written[1] in names:
            steps.append(("write", written[1]))

    names = {table.name for table in ledger_reader.tables()}
    monkeypatch.setattr(ledger_reader, "_copy", record_copy)
    event.listen(Engine, "before_cursor_execute", record_write)
    try:
        refresh(settings)
        key = next(iter(world.facts[Key].values()))["key_arn"]
        world.change(KeyRotation, key, status="disabled")
        world.change(KeyMetadata, key, state="Disabled")
        world.crawl()
        steps.clear()
        refresh(settings)
    finally:
        event.remove(Engine, "before_cursor_execute", record_write)
    written = {name for step, name in steps if step == "write"}
    assert {"finding", "rule_result"} <= written
    read_back = {name for at, (step, name) in enumerate(steps) if step == "read" and ("write", name) in steps[:at]}
    assert read_back <= {
        "access_analysis",
        "access_policy",
        "access_verdict",
        "analysis_watermark",
        "key_analysis",
        "policy_lint",
    }


@pytest.mark.deep
def test_one_build_loads_several_runs(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, build_log: Callable[[], str]
) -> None:
    """One incremental build loads several runs; one of them may have failed and been resumed later."""
    chance = random.Random(99)  # noqa: S311 - no secret
    random_run(world, chance)
    world.crawl()
    random_run(world, chance)
    failed = world.crawl(status="failed")
    renew(settings)
    assert "incremental build of" in build_log()
    engine = store(world.url)
    with engine.begin() as connection:  # resumed: versions of the run end in it, and their ids are reused
        batch = Batch()
        for number, arn in enumerate(row["key_arn"] for row in world.facts[Key].values()):
            batch.mark_complete(Tag, arn)
            batch.add(Tag, resource_arn=arn, tag_key="Owner", tag_value=f"resumed-{number % 2}")
        merge(connection, failed, batch)
        batch = Batch()
        batch.mark_complete(Tag, next(iter(world.facts[Key].values()))["key_arn"])
        merge(connection, failed, batch)
        connection.execute(update(Run).where(Run.run_id == failed).values(status="complete"))
    engine.dispose()
    renew(settings)
    assert "incremental build of" in build_log()
    expect_equal(settings, tmp_path)


@pytest.mark.deep
def test_a_running_run_requires_a_rebuild(
    world: LedgerBuilder, settings: Settings, build_log: Callable[[], str]
) -> None:
    """A mart that loaded an unfinished run is rebuilt."""
    world.crawl(status="running")
    renew(settings)
    world.crawl()
    renew(settings)
    assert build_log().endswith("mart.duckdb: the last run of the previous mart had not ended")


@pytest.mark.deep
def test_pruning_requires_a_rebuild(world: LedgerBuilder, settings: Settings, build_log: Callable[[], str]) -> None:
    """Versions that pruning deletes also leave the mart."""
    world.key(SHOP, "eu-west-1", "00000000-0000-4000-9000-000000000001")
    world.crawl()
    world.crawl()
    renew(settings)
    engine = store(world.url)
    prune(engine, dt.timedelta(hours=1), now=FIRST_RUN + dt.timedelta(days=2, hours=1))
    engine.dispose()
    renew(settings)
    assert build_log().endswith("mart.duckdb: the ledger's runs were pruned or replaced")


@pytest.mark.deep
def test_interrupted_pruning_requires_a_rebuild(
    world: LedgerBuilder, settings: Settings, build_log: Callable[[], str]
) -> None:
    """Row counts detect versions that pruning deletes after it marked the runs."""
    world.change(KeyMetadata, next(iter(world.facts[KeyMetadata]))[0], description="other")
    world.crawl()
    world.crawl()
    engine = store(world.url)
    with engine.begin() as connection:
        connection.execute(update(Run).where(Run.run_id < 3).values(status="pruned"))
    renew(settings)
    renew(settings)
    assert "incremental build of" in build_log()
    with engine.begin() as connection:
        connection.execute(delete(KeyMetadata).where(KeyMetadata.valid_to < 3))
    engine.dispose()
    renew(settings)
    assert "older rows of table key_metadata" in build_log()


@pytest.mark.deep
def test_a_complete_reanalysis_requires_a_rebuild(
    world: LedgerBuilder, settings: Settings, build_log: Callable[[], str]
) -> None:
    """A mart is rebuilt after all analyses were repeated."""
    world.crawl()
    analyze_access(settings, redo=True)
    renew(settings)
    assert "older rows of table analysis_watermark" in build_log()


@pytest.mark.deep
def test_a_mart_as_of_an_earlier_run_requires_a_rebuild(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, build_log: Callable[[], str]
) -> None:
    """A mart as of an earlier run is a full rebuild, and so is the next one."""
    world.crawl()
    renew(settings)
    build(settings.database, settings.report.mart, settings, as_of=1)
    assert build_log().endswith("mart.duckdb: an earlier run is requested")
    renew(settings)
    assert build_log().endswith("mart.duckdb: the previous mart answers as of an earlier run")
    expect_equal(settings, tmp_path)


@pytest.mark.deep
def test_another_ledger_or_other_parties_require_a_rebuild(
    world: LedgerBuilder, settings: Settings, folder: Path, build_log: Callable[[], str]
) -> None:
    """A mart of another ledger, or with other parties, is rebuilt."""
    shutil.copy(folder / "ledger.db", folder / "other.db")
    renew(settings.model_copy(update={"database": f"sqlite:///{folder / 'other.db'}"}))
    assert build_log().endswith("the previous mart was built from another ledger")
    renew(settings)
    others = settings_of(
        database=world.url,
        report={"mart": settings.report.mart},
        known_external_parties=[{"name": "New", "accounts": ["999900001111"]}],
    )
    renew(others)
    assert build_log().endswith("the configured parties have changed")


@pytest.mark.deep
def test_a_restored_ledger_requires_a_rebuild(
    world: LedgerBuilder, settings: Settings, folder: Path, build_log: Callable[[], str]
) -> None:
    """Runs that reuse the numbers of earlier runs are different runs."""
    shutil.copy(folder / "ledger.db", folder / "copy.db")
    world.crawl()
    renew(settings)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(folder / "copy.db", folder / "ledger.db")
    world.runs = 5
    world.crawl()
    renew(settings)
    assert build_log().endswith("the ledger's runs were pruned or replaced")


@pytest.mark.deep
def test_the_batch_size_does_not_affect_the_changes(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changes are the same, whatever the number of runs per batch."""
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(4):
        random_run(world, chance)
        world.crawl()
    renew(settings)
    monkeypatch.setattr(change_log, "CHUNK_VERSIONS", 1)
    expect_equal(settings, tmp_path)


@pytest.mark.deep
def test_incremental_build_from_postgresql(tmp_path: Path, postgresql_url: str, build_log: Callable[[], str]) -> None:
    """An incremental build from PostgreSQL equals a full rebuild."""
    world = sample_world(tmp_path / "unused.db")
    world.url = postgresql_url
    world.crawl()
    settings = settings_of(database=postgresql_url, report={"mart": tmp_path / "mart.duckdb"})
    renew(settings)
    chance = random.Random(3)  # noqa: S311 - no secret
    for _ in range(2):
        random_run(world, chance)
        world.crawl()
        renew(settings)
        assert "incremental build of" in build_log()
    expect_equal(settings, tmp_path)
