"""Retention: the data of kept runs stays complete, and everything that no kept run needs is deleted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Engine, delete, func, insert, select

from models.cli import prune as command
from models.hashing import content_hash
from models.store import crawl_lock, retention
from models.store.engine import connect
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, PolicyText, merge, open_rows
from models.tables import versioned_tables
from models.tables.iam import ResourcePolicy
from models.tables.keys import Key, KeyGrant, KeyLastUsePoll, KeyPolicy, PolicyDocument, Tag
from models.tables.runs import CrawlLock, Delivery, Gap, Outcome, Run, RunStatus, ScopeCoverage
from models.versioned import Base
from tests.hypothesis_profiles import examples

NOW = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)
TABLES = Base.metadata.tables
SCOPES = (("111111111111", "eu-west-1"), ("222222222222", "us-east-1"))
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Scope:
    """The facts of one scope in one run: policy, grants and tag of each key; a gap if the listing failed."""

    outcome: Outcome
    keys: dict[int, tuple[int, frozenset[int], int]]
    listed: bool


@dataclass(frozen=True)
class SampleRun:
    """One run."""

    days_later: int
    status: RunStatus
    scopes: tuple[Scope, ...]
    delivered: bool


KEYS = st.dictionaries(
    st.integers(0, 2), st.tuples(st.integers(0, 2), st.frozensets(st.integers(0, 2)), st.integers(0, 2)), max_size=3
)
HISTORIES = st.lists(
    st.builds(
        SampleRun,
        st.integers(0, 4),
        st.sampled_from([status for status in RunStatus if status is not RunStatus.PRUNED]),
        st.tuples(*(st.builds(Scope, st.sampled_from(list(Outcome)[:3]), KEYS, st.booleans()) for _ in SCOPES)),
        st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


def batch_of(sample: SampleRun) -> Batch:
    batch = Batch()
    for (account, region), scope in zip(SCOPES, sample.scopes, strict=True):
        if scope.outcome is Outcome.FAILED:
            continue
        batch.mark_complete(Gap, account, region)
        if scope.listed:
            batch.mark_complete(Key, account, region)
        else:
            gap = {
                "service": "kms",
                "operation": "ListKeys",
                "subject": "",
                "action": "kms:ListKeys",
                "cause": "denied",
            }
            batch.add(Gap, account_id=account, region=region, code="x", message="", **gap)
        for key, (policy, grants, tag) in scope.keys.items():
            arn = f"arn:aws:kms:{region}:{account}:key/{key}"
            batch.add(Key, key_arn=arn, key_id=str(key), account_id=account, region=region)
            digest = content_hash(f"policy {policy}")
            batch.documents[digest] = PolicyText(canonical=f"policy {policy}", received="{}")
            batch.add(KeyPolicy, key_arn=arn, policy_hash=digest)
            empty = dict.fromkeys(set(KeyGrant.value_columns()) - {"key_arn", "grant_id", "operations"})
            for grant in grants:
                batch.add(KeyGrant, key_arn=arn, grant_id=str(grant), operations="[]", **empty)
            batch.mark_complete(KeyGrant, arn)
            batch.add(Tag, resource_arn=arn, tag_key="owner", tag_value=str(tag))
    return batch


def record(engine: Engine, history: list[SampleRun]) -> None:
    """Write a history into an empty ledger; the last run finishes now."""
    ages = [sum(later.days_later for later in history[index + 1 :]) for index in range(len(history))]
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
        for run, (sample, age) in enumerate(zip(history, ages, strict=True), start=1):
            started = NOW - age * DAY - dt.timedelta(hours=1)
            finished = None if sample.status is RunStatus.RUNNING else NOW - age * DAY
            values = {"run_id": run, "started_at": started, "finished_at": finished, "status": sample.status}
            connection.execute(insert(Run).values(version="test", **values))
            merge(connection, run, batch_of(sample))
            for (account, region), scope in zip(SCOPES, sample.scopes, strict=True):
                where = {"run_id": run, "account_id": account, "region": region}
                connection.execute(insert(ScopeCoverage).values(outcome=scope.outcome, **where))
            if sample.delivered:
                sent = {
                    "report": "overview",
                    "recipient": "a@example.org",
                    "status": "sent",
                    "detail": "",
                    "sent_at": NOW,
                }
                connection.execute(insert(Delivery).values(run_id=run, **sent))


def rows_of(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for name, table in TABLES.items()
        }


def known(engine: Engine, runs: list[int]) -> dict[tuple[str, int], list[str]]:
    """Every version valid in each of the runs."""
    with engine.connect() as connection:
        return {
            (name, run): sorted(repr(tuple(row)) for row in connection.execute(open_rows(model, run)))
            for name, model in versioned_tables().items()
            for run in runs
        }


def coverage_answers(engine: Engine, runs: list[int]) -> Iterator[tuple[Any, ...]]:
    """For each run and scope: last seen, last seen before its listing failed, and start of the current outcome."""
    with engine.connect() as connection:
        covered = {
            (row.account_id, row.region, row.run_id): row.outcome
            for row in connection.execute(select(TABLES["scope_coverage"]))
        }
        gaps = {
            (run, row.account_id, row.region): row.valid_from
            for run in runs
            for row in connection.execute(open_rows(Gap, run))
        }
    for account, region in SCOPES:
        for run in runs:
            past = {
                number: outcome
                for (*scope, number), outcome in covered.items()
                if scope == [account, region] and number <= run
            }
            seen = [number for number, outcome in past.items() if outcome in {Outcome.COMPLETE, Outcome.PARTIAL}]
            unlisted = gaps.get((run, account, region), run + 1)
            broken = max((number for number, outcome in past.items() if outcome != past[run]), default=0)
            listed = max((number for number in seen if number < unlisted), default=None)
            yield account, run, max(seen, default=None), listed, min(number for number in past if number > broken)


@pytest.mark.deep
@pytest.mark.hypothesis
def test_kept_runs_are_complete(ledger: Engine) -> None:
    """For every kept run of random ledgers, facts and age of coverage are unchanged; nothing else is left."""
    # The statements are the same on both engines.
    fast = 12 if ledger.dialect.name == "sqlite" else 4

    @settings(max_examples=examples(fast=fast, deep=20), suppress_health_check=[HealthCheck.too_slow])
    @given(history=HISTORIES, keep=st.integers(1, 12), coverage=st.none() | st.integers(1, 12))
    def check(history: list[SampleRun], keep: int, coverage: int | None) -> None:
        prune_and_compare(ledger, history, keep, coverage)

    check()


def prune_and_compare(ledger: Engine, history: list[SampleRun], keep: int, coverage: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "VERSIONS_PER_BATCH", 2)
        record(ledger, history)
        before = rows_of(ledger)
        ages = {run: sum(sample.days_later for sample in history[run:]) for run in range(1, len(history) + 1)}
        finished = [run for run, age in ages.items() if age < keep]
        covered = [run for run, age in ages.items() if age < (coverage or keep)]
        kept = known(ledger, finished)
        answers = list(coverage_answers(ledger, sorted(set(finished) & set(covered))))
        days = None if coverage is None else coverage * DAY
        counted_rows = retention.prune(ledger, keep * DAY, days, dry_run=True, now=NOW)
        assert rows_of(ledger) == before
        done = retention.prune(ledger, keep * DAY, days, now=NOW)
    after = rows_of(ledger)
    assert known(ledger, finished) == kept
    assert list(coverage_answers(ledger, sorted(set(finished) & set(covered)))) == answers
    lost = {name: len(rows) - len(after[name]) for name, rows in before.items() if len(rows) != len(after[name])}
    assert done.rows == counted_rows.rows == lost
    assert done.horizon is not None
    oldest = done.horizon.versions
    assert oldest <= min(finished)
    for model in versioned_tables().values():
        table = model.table()
        ends = table.columns.keys().index("valid_to")
        assert after[table.name] == [row for row in before[table.name] if row[ends] is None or row[ends] >= oldest]
    hashes = KeyPolicy.table().columns.keys().index("policy_hash")
    used = {row[hashes] for row in after["key_policy"]}
    assert {row[0] for row in after["policy_document"]} == used
    assert {row[0] for row in after["delivery"]} == {row[0] for row in before["delivery"] if row[0] >= oldest}
    ids = {row[0] for row in after["run"]}
    edges = {row[0] for row in after["scope_coverage"]}
    for model in versioned_tables().values():
        names = model.table().columns.keys()
        edges |= {
            row[names.index(edge)] for row in after[model.table().name] for edge in ("valid_from", "valid_to")
        } - {None}
    assert ids == edges | {run for run in ages if run >= oldest}
    assert after["crawl_lock"] == []
    again = retention.prune(ledger, keep * DAY, days, now=NOW)
    assert again.rows == {}


SEEN = Scope(Outcome.COMPLETE, {0: (0, frozenset({0}), 0)}, listed=True)
CHANGED = Scope(Outcome.COMPLETE, {0: (1, frozenset({1}), 1)}, listed=True)
NOTHING = Scope(Outcome.FAILED, {}, listed=False)


def sample_run(days_later: int, scope: Scope, status: RunStatus = RunStatus.COMPLETE) -> SampleRun:
    return SampleRun(days_later, status, (scope, NOTHING), delivered=False)


def test_polls_are_deleted_with_their_key(ledger: Engine) -> None:
    """A poll stays while a kept run knows the key, even if the run of the poll was deleted."""
    both = Scope(Outcome.COMPLETE, {0: (0, frozenset(), 0), 1: (0, frozenset(), 0)}, listed=True)
    first_only = Scope(Outcome.COMPLETE, {0: (0, frozenset(), 0)}, listed=True)
    record(ledger, [sample_run(0, both), sample_run(10, first_only), sample_run(10, first_only)])
    account, region = SCOPES[0]
    with ledger.begin() as connection:
        arns = sorted(connection.scalars(select(Key.key_arn).where(Key.account_id == account)))
        merge(connection, 1, Batch(last_use_polls=[LastUsePoll(arn, account, region, NOW - 20 * DAY) for arn in arns]))
    counted = retention.prune(ledger, 15 * DAY, dry_run=True, now=NOW).rows
    assert counted == retention.prune(ledger, 15 * DAY, now=NOW).rows
    assert "key_last_use_poll" not in counted, "run 2, which saw the key go, is kept: what it ended is kept as well"
    assert retention.prune(ledger, 5 * DAY, now=NOW).rows["key_last_use_poll"] == 1
    with ledger.connect() as connection:
        assert list(connection.scalars(select(KeyLastUsePoll.key_arn))) == arns[:1]


def test_the_last_successful_run_is_kept(ledger: Engine) -> None:
    """Reports use the last successful run: later failures do not remove it, whatever its age."""
    record(
        ledger,
        [
            sample_run(0, SEEN),
            sample_run(50, CHANGED),
            sample_run(50, SEEN, RunStatus.FAILED),
            sample_run(50, NOTHING, RunStatus.FAILED),
        ],
    )
    good = known(ledger, [2])
    done = retention.prune(ledger, DAY, now=NOW + 100 * DAY)
    assert done.horizon == retention.Horizon(2, 2)
    assert known(ledger, [2]) == good


def test_incomplete_runs_are_marked_as_pruned(ledger: Engine) -> None:
    """A run that is kept only for a validity interval has the status pruned."""
    record(ledger, [sample_run(0, SEEN), sample_run(50, CHANGED), sample_run(50, CHANGED)])
    retention.prune(ledger, DAY, now=NOW)
    with ledger.connect() as connection:
        statuses = {row.run_id: row.status for row in connection.execute(select(Run.run_id, Run.status))}
    assert statuses == {1: "pruned", 2: "pruned", 3: "complete"}


def test_facts_without_a_policy_keep_no_document(ledger: Engine) -> None:
    """A fact with no policy hash does not make documents count as used."""
    record(ledger, [sample_run(0, SEEN), sample_run(50, CHANGED), sample_run(50, CHANGED)])
    batch = Batch()
    batch.add(ResourcePolicy, resource_arn="arn:aws:secretsmanager:eu-west-1:111111111111:secret:a", policy_hash=None)
    with ledger.begin() as connection:
        merge(connection, 3, batch)
    assert retention.prune(ledger, DAY, now=NOW).rows["policy_document"] == 1


def test_a_ledger_without_runs_is_unchanged(ledger: Engine) -> None:
    """Before the first crawl, pruning deletes nothing and raises no error."""
    assert retention.prune(ledger, DAY) == retention.Pruned(None)
    assert retention.prune(ledger, DAY, dry_run=True) == retention.Pruned(None)


def test_old_coverage_is_found_without_a_scan_for_each_scope(sqlite_url: str) -> None:
    """Ten times the scopes cost about ten times as much: coverage is not read again for each of them."""
    engine = connect(sqlite_url)
    runs = range(1, 41)
    with engine.begin() as connection:
        values = {"started_at": NOW, "status": RunStatus.COMPLETE, "version": "test"}
        connection.execute(insert(Run), [{"run_id": run, **values} for run in runs])
    instructions: list[int] = []
    for scopes in (range(30), range(30, 300)):
        coverage = [
            {
                "run_id": run,
                "account_id": f"{scope:012}",
                "region": "eu-west-1",
                "outcome": ("complete", "failed")[run % 2],
            }
            for run in runs
            for scope in scopes
        ]
        ticks: list[None] = []
        with engine.begin() as connection:
            connection.execute(insert(ScopeCoverage), coverage)
            driver: Any = connection.connection.dbapi_connection
            driver.set_progress_handler(lambda ticks=ticks: ticks.append(None), 100)
            found = connection.execute(retention.OLD_COVERAGE, {"coverage": 30, "versions": 30}).all()
            driver.set_progress_handler(None, 0)
        assert len({row.account_id for row in found}) == scopes.stop
        instructions.append(len(ticks))
    engine.dispose()
    assert 0 < instructions[1] < 15 * instructions[0]


def test_rejected_during_a_crawl(ledger: Engine) -> None:
    """Pruning is rejected during a crawl; a dry run is allowed."""
    record(ledger, [sample_run(0, SEEN), sample_run(50, CHANGED), sample_run(50, CHANGED)])
    with ledger.begin() as connection:
        crawl_lock.acquire(connection, 3)
    before = rows_of(ledger)
    with pytest.raises(crawl_lock.LockedError, match="wait for it to end"):
        retention.prune(ledger, DAY, now=NOW)
    assert rows_of(ledger) == before
    assert retention.prune(ledger, DAY, dry_run=True, now=NOW).rows["key_policy"] == 1


def test_crawls_are_rejected_during_pruning(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawl that starts during pruning is rejected; a later one is not."""
    record(ledger, [sample_run(0, SEEN), sample_run(50, CHANGED)])
    refused = []
    real = retention._id_ranges

    def meanwhile(*arguments: Any) -> Iterator[ColumnElement[bool]]:
        with pytest.raises(crawl_lock.LockedError) as caught, ledger.begin() as connection:
            crawl_lock.acquire(connection, 2)
        refused.append(str(caught.value))
        yield from real(*arguments)

    monkeypatch.setattr(retention, "_id_ranges", meanwhile)
    retention.prune(ledger, DAY, now=NOW)
    assert refused
    with ledger.begin() as connection:
        crawl_lock.acquire(connection, 2)
        assert connection.execute(select(func.count()).select_from(CrawlLock)).scalar_one() == 1


def test_the_command_prints_deleted_rows_and_freed_space(sqlite_url: str, tmp_path: Path) -> None:
    """The dry run prints what the command then deletes, and the SQLite file shrinks by the printed size."""
    engine = connect(sqlite_url)
    record(engine, [sample_run(0, SEEN), sample_run(50, CHANGED), sample_run(50, CHANGED)])
    with engine.begin() as connection:
        texts = [
            {"policy_hash": bytes([n]) * 16, "canonical": "x" * 50_000, "received": "y" * 50_000} for n in range(20)
        ]
        connection.execute(insert(PolicyDocument), texts)
    engine.dispose()
    file = tmp_path / "kmsledger.yaml"
    file.write_text(f"database: {sqlite_url}\n")
    size = (tmp_path / "ledger.db").stat().st_size

    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(command, ["--config", str(file), *arguments])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    announced = run("--keep", "30", "--dry-run")
    assert announced[-1].endswith("rows would be deleted; run 3 is the oldest complete run")
    assert "policy_document: 21 rows" in announced
    done = run("--keep", "30")
    assert done[: len(announced) - 1] == announced[:-1]
    smaller = size - (tmp_path / "ledger.db").stat().st_size
    assert smaller > 1_900_000
    assert done[-2] == f"the file shrank by {smaller / 1e6:.1f} MB"
    assert done[-1] == "run `kmsledger mart` to rebuild the mart without the deleted data"
    assert run("--keep", "30") == ["0 rows deleted; run 3 is the oldest complete run"]


@pytest.mark.parametrize("days", ["0", "-1", "x", "99999999999"])
def test_invalid_days_are_usage_errors(days: str) -> None:
    """Invalid numbers of days are rejected before the database is opened; 0 days would delete everything."""
    assert CliRunner().invoke(command, ["--keep", days]).exit_code == 2
