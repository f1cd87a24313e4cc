"""Which regions are quiet: nothing is known there, and a whole crawl that found nothing was not long ago."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from crawler import empty_regions
from crawler.empty_regions import find_empty_regions
from crawler.spec import GLOBAL
from models.store.engine import connect
from models.store.scd2_merge import Batch, merge
from models.tables import Alias, CustomKeyStore, Key, Resource
from models.tables.runs import Gap, Outcome, Run, RunStatus, ScopeCoverage
from models.versioned import VersionedTable
from tests.models.store.ledger_builders import ACCOUNT, REGION, key, resource, row

HERE = (ACCOUNT, REGION)
PLACE = {"account_id": ACCOUNT, "region": REGION}
ALIAS = {**PLACE, "alias_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/x"}


def night(
    engine: Engine,
    *facts: tuple[type[VersionedTable], dict[str, Any]],
    age: float = 0,
    scopes: tuple[tuple[str, str], ...] = (HERE,),
    version: str = "1.0",
    complete: tuple[tuple[Any, ...], ...] = (),
    **coverage: Any,
) -> int:
    """A run so many days ago, what it found, and the coverage of its scopes. Returns the run's id."""
    batch = Batch()
    for model, values in facts:
        batch.add(model, **values)
    for model, *listing_key in complete:
        batch.mark_complete(model, *listing_key)
    started = dt.datetime.now(dt.UTC) - dt.timedelta(days=age)
    values = {"started_at": started, "status": str(RunStatus.COMPLETE), "version": version}
    with engine.begin() as connection:
        run_id: int = connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one()
        merge(connection, run_id, batch)
        for account_id, region in scopes:
            covered = {"outcome": str(Outcome.COMPLETE), "gaps": 0, **coverage}
            connection.execute(
                insert(ScopeCoverage).values(run_id=run_id, account_id=account_id, region=region, **covered)
            )
    return run_id


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """An empty ledger in SQLite: the query has no dialect, and each crawl of the end-to-end tests runs it on PostgreSQL too."""
    made = connect(sqlite_url)
    yield made
    made.dispose()


def test_an_empty_ledger_has_no_quiet_regions(engine: Engine) -> None:
    """On the first night everything is asked."""
    assert find_empty_regions(engine, 7) == {}


def test_a_region_in_which_nothing_was_found_is_quiet(engine: Engine) -> None:
    """The sentence names the run that last asked for everything, and its day."""
    night(engine, age=2)
    run_id = night(engine, age=1)
    day = f"{dt.datetime.now(dt.UTC) - dt.timedelta(days=1):%Y-%m-%d}"
    reason = f"no keys; the last full crawl of the region, run {run_id} ({day}), found nothing"
    assert find_empty_regions(engine, 7) == {HERE: reason}
    assert find_empty_regions(engine, 0) == {}


def test_only_whole_crawls_count(engine: Engine) -> None:
    """A quiet night, one with gaps and one that failed do not put off the next full one."""
    first = night(engine, age=3)
    night(engine, age=2, reason="no keys; the last full crawl of the region, run 1 (2026-11-20), found nothing")
    night(engine, age=1, outcome=str(Outcome.PARTIAL), gaps=1)
    night(engine, outcome=str(Outcome.FAILED), reason="the time set for it was used up")
    assert f"run {first} " in find_empty_regions(engine, 3)[HERE]
    assert find_empty_regions(engine, 2) == {}


@pytest.mark.parametrize("days", [1, 7, 30])
def test_days_are_those_of_the_calendar(engine: Engine, days: int) -> None:
    """The last full crawl may be that many days ago, whatever the hour, and not one day more."""
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = (dt.datetime.now(dt.UTC) - midnight) / dt.timedelta(days=1)
    night(engine, age=days + today - 1e-4)
    assert HERE in find_empty_regions(engine, days)
    assert find_empty_regions(engine, days - 1) == {}


KNOWN: list[tuple[type[VersionedTable], dict[str, Any]]] = [
    (Key, key()),
    (Alias, row(Alias, **ALIAS, target_key_id="1", target_key_arn="arn")),
    (CustomKeyStore, row(CustomKeyStore, **PLACE, store_id="cks-1")),
    (Resource, resource()),
    (Gap, row(Gap, **PLACE, subject="")),
]


@pytest.mark.parametrize(("model", "values"), KNOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_whatever_is_known_there_ends_the_quiet(
    engine: Engine, model: type[VersionedTable], values: dict[str, Any]
) -> None:
    """One fact is enough; as soon as it has ended, and was proved to be gone, the region is quiet again."""
    night(engine, (model, values))
    assert find_empty_regions(engine, 7) == {}
    night(engine, complete=((model, *(values[name] for name in model.listing_key)),))
    assert HERE in find_empty_regions(engine, 7)


def test_facts_of_other_places_do_not_matter(engine: Engine) -> None:
    """The same account's other region, the same region's other account, and a bucket that is kept there."""
    bucket = resource("b", listing_region=GLOBAL)
    other = night(engine, (Key, key(region="us-east-1")), (Key, key(2, account_id="999999999999")), (Resource, bucket))
    assert f"run {other} " in find_empty_regions(engine, 7)[HERE]
    assert set(find_empty_regions(engine, 7)) == {HERE}


def test_an_alias_of_aws_that_has_no_key_is_nothing(engine: Engine) -> None:
    """Every region has them from the start."""
    night(engine, (Alias, row(Alias, **ALIAS, target_key_id=None)))
    assert HERE in find_empty_regions(engine, 7)


def test_the_account_s_own_part_is_never_quiet(engine: Engine) -> None:
    """Buckets are listed every night."""
    night(engine, scopes=(HERE, (ACCOUNT, GLOBAL)))
    assert set(find_empty_regions(engine, 7)) == {HERE}


def test_another_version_asks_for_everything_once(engine: Engine) -> None:
    """What found nothing may have asked for less: the run that is under way decides which version counts."""
    night(engine, version="1.0")
    night(engine, version="1.1", scopes=())
    assert find_empty_regions(engine, 7) == {}
    night(engine, version="1.1")
    assert HERE in find_empty_regions(engine, 7)


def test_every_place_of_a_fact_is_a_column() -> None:
    """A facet that is added is looked up by its account and by where it was asked."""
    for model, place in empty_regions.REGION_COLUMNS.items():
        assert {"account_id", place, "valid_to"} <= set(model.table().c.keys())
