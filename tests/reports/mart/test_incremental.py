"""A mart that goes on from the one before holds, to the row, what one built as a whole holds."""

from __future__ import annotations

import datetime as dt
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import delete, update

from models.settings import Settings
from models.store.engine import connect as store
from models.store.retention import prune
from models.store.scd2_merge import Batch, merge
from models.tables import Alias, Gap, Key, KeyGrant, KeyMetadata, KeyRotation, Resource, Run, Tag
from reports.access.analysis.stage import analyze_access
from reports.mart import change_log
from reports.mart.build import build
from reports.pipeline import refresh
from tests.reports.ledger_builder import (
    FIRST_RUN,
    LedgerBuilder,
    one_rule_of_each_family,
    only,
    root_statement,
    settings_of,
)
from tests.reports.sample_ledger import DATA, SHOP, sample_world

Contents = dict[str, list[str]]


def everything(path: Path) -> Contents:
    """Every table and view of a mart, the ledger's copies included, with its rows in an order of their own."""
    connection = duckdb.connect(str(path), read_only=True)
    names = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name <> 'made'"
    ).fetchall()
    # Numbers that verdicts are stored by: which thing has which does not matter, the view has its name.
    hidden = {("ledger", "subject"), ("ledger", "place"), ("ledger", "verdict")}
    found = {
        f"{schema}.{name}": sorted(map(str, connection.execute(f'SELECT * FROM {schema}."{name}"').fetchall()))
        for schema, name in names
        if (schema, name) not in hidden
    }
    connection.close()
    return found


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What the last mart said of how it was made."""
    caplog.set_level(logging.INFO, logger="reports.mart.build")
    return lambda: caplog.messages[-1]


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    made = sample_world(tmp_path / "ledger.db")
    made.crawl()
    return made


@pytest.fixture
def settings(world: LedgerBuilder, tmp_path: Path) -> Settings:
    made = settings_of(
        database=world.url, report={"mart": tmp_path / "mart.duckdb"}, rules=only(*one_rule_of_each_family())
    )
    renew(made)
    return made


def renew(settings: Settings) -> None:
    """The stage after a crawl, without the rules: they are the same work however the mart was made."""
    analyze_access(settings)
    build(settings.database, settings.report.mart, settings)


def expect_equal(settings: Settings, tmp_path: Path, *, rules: bool = False) -> None:
    """Bring the mart up to date, and compare with a mart that is built as a whole."""
    refresh(settings) if rules else renew(settings)
    gone_on = everything(settings.report.mart)
    other = settings.model_copy(
        update={"report": settings.report.model_copy(update={"mart": tmp_path / "whole.duckdb"})}
    )
    other.report.mart.unlink(missing_ok=True)
    refresh(other) if rules else renew(other)
    whole = everything(other.report.mart)
    assert set(gone_on) == set(whole)
    for name, rows in whole.items():
        assert gone_on[name] == rows, name


def random_night(world: LedgerBuilder, chance: random.Random) -> None:
    """A few changes of any kind."""
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
            mine = [one for one in world.facts.get(KeyGrant, {}) if one[0] == arn]
            if mine:
                world.remove(KeyGrant, *chance.choice(mine))
        elif kind == 4:
            world.tag(arn, Owner=f"team-{chance.randrange(3)}")
        elif kind == 5:
            world.facts.get(Tag, {}).pop((arn, "Owner"), None)
        elif kind == 6:
            world.alias(f"alias/x{chance.randrange(3)}", arn)
        elif kind == 7:
            mine = list(world.facts.get(Alias, {}))
            world.remove(Alias, *chance.choice(mine))
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
            world.change(KeyRotation, arn, status=chance.choice(["on", "off"]))
        else:
            place = chance.choice(list(world.outcomes))
            world.outcomes[place] = chance.choice([("complete", None), ("failed", "unreachable"), ("partial", None)])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.deep) for seed in (1, 2))])
def test_random_nights(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, told: Callable[[], str], seed: int
) -> None:
    """Nights with changes of all kinds, with gaps and failed places: going on gives what building as a whole gives."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    if seed == 1:
        settings = settings.model_copy(update={"rules": settings_of().rules})
    for _ in range(3):
        random_night(world, chance)
        world.crawl()
        renew(settings)
        assert "goes on from run" in told()
    expect_equal(settings, tmp_path, rules=seed < 2)
    if seed == 0:  # rules that ran again for the same run
        expect_equal(settings, tmp_path, rules=True)


def test_several_nights_at_once(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, told: Callable[[], str]
) -> None:
    """Several nights since the last mart are taken over at once; one of them may have failed, and be resumed later."""
    chance = random.Random(99)  # noqa: S311 - no secret
    random_night(world, chance)
    world.crawl()
    random_night(world, chance)
    failed = world.crawl(status="failed")
    renew(settings)
    assert "goes on from run" in told()
    engine = store(world.url)
    with engine.begin() as connection:  # resumed: versions of the run end in it, and give their ids away
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
    assert "goes on from run" in told()
    expect_equal(settings, tmp_path)


def test_a_run_that_still_ran_is_read_again(world: LedgerBuilder, settings: Settings, told: Callable[[], str]) -> None:
    """A mart that saw a part of a run is not gone on from."""
    world.crawl(status="running")
    renew(settings)
    world.crawl()
    renew(settings)
    assert told().endswith("is built as a whole: its last run had not ended")


def test_after_pruning_the_mart_is_built_as_a_whole(
    world: LedgerBuilder, settings: Settings, told: Callable[[], str]
) -> None:
    """Versions that were deleted leave the mart, too."""
    world.key(SHOP, "eu-west-1", "00000000-0000-4000-9000-000000000001")
    world.crawl()
    world.crawl()
    renew(settings)
    engine = store(world.url)
    prune(engine, dt.timedelta(hours=1), now=FIRST_RUN + dt.timedelta(days=2, hours=1))
    engine.dispose()
    renew(settings)
    assert told().endswith("is built as a whole: runs of the ledger were pruned, or are others")


def test_pruning_that_was_interrupted(world: LedgerBuilder, settings: Settings, told: Callable[[], str]) -> None:
    """What pruning deletes after its runs were marked is noticed by counting."""
    world.change(KeyMetadata, next(iter(world.facts[KeyMetadata]))[0], description="other")
    world.crawl()
    world.crawl()
    engine = store(world.url)
    with engine.begin() as connection:
        connection.execute(update(Run).where(Run.run_id < 3).values(status="pruned"))
    renew(settings)
    renew(settings)
    assert "goes on from run" in told()
    with engine.begin() as connection:
        connection.execute(delete(KeyMetadata).where(KeyMetadata.valid_to < 3))
    engine.dispose()
    renew(settings)
    assert "older rows of table key_metadata" in told()


def test_after_a_new_analysis_of_everything(world: LedgerBuilder, settings: Settings, told: Callable[[], str]) -> None:
    """Analyses that were all made anew are all taken over."""
    world.crawl()
    analyze_access(settings, redo=True)
    renew(settings)
    assert "older rows of table analysis_watermark" in told()


def test_an_earlier_run(world: LedgerBuilder, settings: Settings, tmp_path: Path, told: Callable[[], str]) -> None:
    """A mart as of an earlier run neither goes on from another nor is gone on from."""
    world.crawl()
    renew(settings)
    build(settings.database, settings.report.mart, settings, as_of=1)
    assert told().endswith("is built as a whole: an earlier run is asked for")
    renew(settings)
    assert told().endswith("is built as a whole: it answers for an earlier run")
    expect_equal(settings, tmp_path)


def test_another_ledger_or_other_parties(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, told: Callable[[], str]
) -> None:
    """What was made of something else is not gone on from."""
    shutil.copy(tmp_path / "ledger.db", tmp_path / "other.db")
    renew(settings.model_copy(update={"database": f"sqlite:///{tmp_path / 'other.db'}"}))
    assert told().endswith("it was made of another ledger")
    renew(settings)
    others = settings_of(
        database=world.url,
        report={"mart": settings.report.mart},
        known_external_parties=[{"name": "New", "accounts": ["999900001111"]}],
    )
    renew(others)
    assert told().endswith("the parties in the settings are others")


def test_a_ledger_restored_from_a_copy(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, told: Callable[[], str]
) -> None:
    """Runs that were made again under the same number are other runs."""
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    world.crawl()
    renew(settings)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "ledger.db")
    world.runs = 5
    world.crawl()
    renew(settings)
    assert told().endswith("runs of the ledger were pruned, or are others")


def test_portions_of_runs_make_the_same_changes(
    world: LedgerBuilder, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many runs are compared at once, the changes are the same."""
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(4):
        random_night(world, chance)
        world.crawl()
    renew(settings)
    monkeypatch.setattr(change_log, "AT_ONCE", 1)
    expect_equal(settings, tmp_path)


def test_postgresql(tmp_path: Path, postgresql_url: str, told: Callable[[], str]) -> None:
    """The same from PostgreSQL."""
    world = sample_world(tmp_path / "unused.db")
    world.url = postgresql_url
    world.crawl()
    settings = settings_of(database=postgresql_url, report={"mart": tmp_path / "mart.duckdb"})
    renew(settings)
    chance = random.Random(3)  # noqa: S311 - no secret
    for _ in range(2):
        random_night(world, chance)
        world.crawl()
        renew(settings)
        assert "goes on from run" in told()
    expect_equal(settings, tmp_path)
