"""Empty regions: the ledger has no facts there, and a recent full crawl found nothing."""

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

SCOPE = (ACCOUNT, REGION)
COLUMNS = {"account_id": ACCOUNT, "region": REGION}
ALIAS = {**COLUMNS, "alias_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/x"}


def record_run(
    engine: Engine,
    *facts: tuple[type[VersionedTable], dict[str, Any]],
    age: float = 0,
    scopes: tuple[tuple[str, str], ...] = (SCOPE,),
    version: str = "1.0",
    complete: tuple[tuple[Any, ...], ...] = (),
    **coverage: Any,
) -> int:
    """Record a run ``age`` days ago with its facts and coverage, and return its id."""
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
            coverage_values = {"outcome": str(Outcome.COMPLETE), "gaps": 0, **coverage}
            connection.execute(
                insert(ScopeCoverage).values(run_id=run_id, account_id=account_id, region=region, **coverage_values)
            )
    return run_id


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    """An empty SQLite ledger; the end-to-end tests run the same query on PostgreSQL."""
    engine = connect(sqlite_url)
    yield engine
    engine.dispose()


def test_an_empty_ledger_has_no_empty_regions(engine: Engine) -> None:
    """The first run crawls every region in full."""
    assert find_empty_regions(engine, 7) == {}


def test_a_region_without_facts_is_empty(engine: Engine) -> None:
    """The reason names the last full crawl and its date."""
    record_run(engine, age=2)
    run_id = record_run(engine, age=1)
    day = f"{dt.datetime.now(dt.UTC) - dt.timedelta(days=1):%Y-%m-%d}"
    reason = f"no keys; the last full crawl of the region, run {run_id} ({day}), found nothing"
    assert find_empty_regions(engine, 7) == {SCOPE: reason}
    assert find_empty_regions(engine, 0) == {}


def test_only_full_crawls_count(engine: Engine) -> None:
    """Reduced, partial and failed crawls do not delay the next full crawl."""
    first = record_run(engine, age=3)
    record_run(engine, age=2, reason="no keys; the last full crawl of the region, run 1 (2026-11-20), found nothing")
    record_run(engine, age=1, outcome=str(Outcome.PARTIAL), gaps=1)
    record_run(engine, outcome=str(Outcome.FAILED), reason="the time set for it was used up")
    assert f"run {first} " in find_empty_regions(engine, 3)[SCOPE]
    assert find_empty_regions(engine, 2) == {}


@pytest.mark.parametrize("days", [1, 7, 30])
def test_days_are_calendar_days(engine: Engine, days: int) -> None:
    """The last full crawl may be exactly that many days ago, at any hour, but not longer."""
    midnight = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = (dt.datetime.now(dt.UTC) - midnight) / dt.timedelta(days=1)
    record_run(engine, age=days + today - 1e-4)
    assert SCOPE in find_empty_regions(engine, days)
    assert find_empty_regions(engine, days - 1) == {}


FACTS: list[tuple[type[VersionedTable], dict[str, Any]]] = [
    (Key, key()),
    (Alias, row(Alias, **ALIAS, target_key_id="1", target_key_arn="arn")),
    (CustomKeyStore, row(CustomKeyStore, **COLUMNS, store_id="cks-1")),
    (Resource, resource()),
    (Gap, row(Gap, **COLUMNS, subject="")),
]


@pytest.mark.parametrize(("model", "values"), FACTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fact_makes_a_region_not_empty(engine: Engine, model: type[VersionedTable], values: dict[str, Any]) -> None:
    """One open fact is enough; once a complete listing closes it, the region is empty again."""
    record_run(engine, (model, values))
    assert find_empty_regions(engine, 7) == {}
    record_run(engine, complete=((model, *(values[name] for name in model.listing_key)),))
    assert SCOPE in find_empty_regions(engine, 7)


def test_facts_of_other_scopes_do_not_matter(engine: Engine) -> None:
    """Facts of another region, of another account, and of a bucket in the region do not count."""
    bucket = resource("b", listing_region=GLOBAL)
    other = record_run(
        engine, (Key, key(region="us-east-1")), (Key, key(2, account_id="999999999999")), (Resource, bucket)
    )
    assert f"run {other} " in find_empty_regions(engine, 7)[SCOPE]
    assert set(find_empty_regions(engine, 7)) == {SCOPE}


def test_an_aws_alias_without_a_key_does_not_count(engine: Engine) -> None:
    """Every region has AWS aliases without a key by default, so they do not count as use."""
    record_run(engine, (Alias, row(Alias, **ALIAS, target_key_id=None)))
    assert SCOPE in find_empty_regions(engine, 7)


def test_the_global_scope_is_never_empty(engine: Engine) -> None:
    """Buckets are listed in every run."""
    record_run(engine, scopes=(SCOPE, (ACCOUNT, GLOBAL)))
    assert set(find_empty_regions(engine, 7)) == {SCOPE}


def test_another_version_crawls_in_full_once(engine: Engine) -> None:
    """An older version may have collected less: only crawls by the version of the current run count."""
    record_run(engine, version="1.0")
    record_run(engine, version="1.1", scopes=())
    assert find_empty_regions(engine, 7) == {}
    record_run(engine, version="1.1")
    assert SCOPE in find_empty_regions(engine, 7)


def test_every_region_column_exists() -> None:
    """Every checked table has the account and region columns of the query."""
    for model, column in empty_regions.REGION_COLUMNS.items():
        assert {"account_id", column, "valid_to"} <= set(model.table().c.keys())
