"""Writes crawled scopes to the ledger: one thread merges them in batches, each scope together with its coverage."""

from __future__ import annotations

import datetime as dt
import pickle
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Self

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from models.errors import UserError
from models.store import crawl_lock
from models.store.engine import translate_errors
from models.store.scd2_merge import Batch, Merged, merge
from models.tables.keys import KeyLastUseGap
from models.tables.runs import Outcome, Run, RunStatus, ScopeCoverage

BATCH_SCOPES = 50
"""Maximum number of scopes per transaction."""

BATCH_BYTES = 4 * 1024 * 1024
"""Size of packed scopes at which a batch is written."""

MAX_DELAY_S = 0.25
"""Seconds that a scope waits for others to share a transaction: the merge costs more than the rows of a small scope."""

HEARTBEAT_S = 60.0
"""Seconds without a scope to save after which the writer renews the crawl lock."""

WHOLE_ACCOUNT = "*"
"""The region of coverage and gaps of a whole account."""
ORGANIZATION = "organization"
"""The region of coverage and gaps of the organization itself."""


class NothingToResumeError(UserError):
    """There is no unfinished run."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Coverage:
    """The outcome of one scope; a row of ``scope_coverage``."""

    account_id: str
    region: str
    outcome: str
    reason: str | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    calls: int = 0
    retries: int = 0
    gaps: int = 0
    read_run_id: int | None = None
    """The earlier run that it is from; ``None``: this run."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A scope's coverage and facts, committed together; facts outside any scope have no coverage."""

    coverage: Coverage | None
    batch: Batch


@dataclass(frozen=True, slots=True)
class Packed:
    """A :class:`Finished` from another process, unpacked only when it is saved, so that the queue stays small."""

    coverage: Coverage
    data: bytes

    def unpack(self) -> Finished:
        """Return the unpacked scope."""
        finished: Finished = pickle.loads(zlib.decompress(self.data))  # noqa: S301 - sent by a worker of this crawl
        return finished


def pack(finished: Finished) -> Packed:
    """Pickle and compress a scope for the process that saves it; the scope must have coverage.

    Hundreds of scopes may queue while a very large one is saved.
    """
    assert finished.coverage is not None  # noqa: S101 - facts outside any scope are never sent
    return Packed(finished.coverage, zlib.compress(pickle.dumps(finished, pickle.HIGHEST_PROTOCOL), 1))


def start(engine: Engine, version: str, **limits: str | None) -> int:
    """Create a run and acquire the crawl lock; raises an error while another crawl is running.

    ``limits`` are the columns of the run that name the accounts and regions it is limited to.
    """
    with translate_errors(engine), engine.begin() as connection:
        values = {"started_at": dt.datetime.now(dt.UTC), "status": str(RunStatus.RUNNING), "version": version, **limits}
        run_id: int = connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one()
        crawl_lock.acquire(connection, run_id)
    return run_id


def ended(engine: Engine) -> CrawlResult | None:
    """Return the result of the last run if its crawl has ended, so that only later stages can be missing."""
    columns = [Run.__table__.c[name] for name in CrawlResult.__dataclass_fields__]
    with translate_errors(engine), engine.connect() as connection:
        last = connection.execute(select(*columns).order_by(Run.run_id.desc()).limit(1)).mappings().first()
    if last is None or last["status"] not in {RunStatus.COMPLETE, RunStatus.PARTIAL}:
        return None
    return CrawlResult(**{**last, "status": RunStatus(last["status"])})


def resume(engine: Engine) -> int:
    """Reopen the last run, which was interrupted or failed; raises :class:`NothingToResumeError` if there is none."""
    with translate_errors(engine), engine.begin() as connection:
        run_id: int | None = connection.execute(select(func.max(Run.run_id))).scalar()
        if run_id is None:
            raise NothingToResumeError("no run to resume: start one with `kmsledger crawl`")
        crawl_lock.acquire(connection, run_id)
        # Failed scopes are crawled again and write their coverage again.
        saved = (str(Outcome.COMPLETE), str(Outcome.PARTIAL))
        incomplete = ScopeCoverage.region.in_((WHOLE_ACCOUNT, ORGANIZATION)) | ScopeCoverage.outcome.not_in(saved)
        connection.execute(delete(ScopeCoverage).where(ScopeCoverage.run_id == run_id, incomplete))
        connection.execute(
            update(Run)
            .where(Run.run_id == run_id)
            .values(status=str(RunStatus.RUNNING), finished_at=None, message=None)
        )
    return run_id


def saved_scopes(engine: Engine, run_id: int) -> frozenset[tuple[str, str]]:
    """Return account and region of the scopes that this run has already saved."""
    query = select(ScopeCoverage.account_id, ScopeCoverage.region).where(
        ScopeCoverage.run_id == run_id,
        ScopeCoverage.outcome.in_([str(Outcome.COMPLETE), str(Outcome.PARTIAL)]),
        ScopeCoverage.read_run_id.is_(None),
    )
    with translate_errors(engine), engine.connect() as connection:
        return frozenset((account, region) for account, region in connection.execute(query))


def describe(engine: Engine, run_id: int, **values: str | int | None) -> None:
    """Store attributes of a run, such as the caller and the organization."""
    with translate_errors(engine), engine.begin() as connection:
        connection.execute(update(Run).where(Run.run_id == run_id).values(values))


def discard(engine: Engine, run_id: int) -> None:
    """Delete a run that has read nothing, because it was started with wrong arguments. The crawl lock must be released."""
    with translate_errors(engine), engine.begin() as connection:
        connection.execute(delete(ScopeCoverage).where(ScopeCoverage.run_id == run_id))
        connection.execute(delete(Run).where(Run.run_id == run_id))


def carry(engine: Engine, run_id: int, coverages: Sequence[Coverage]) -> None:
    """Replace the coverage of what is not part of the run, which earlier runs have read."""
    table = ScopeCoverage.__table__
    carried = table.c.read_run_id.is_not(None) | (table.c.outcome == str(Outcome.NOT_IN_RUN))
    with translate_errors(engine), engine.begin() as connection:
        connection.execute(delete(ScopeCoverage).where(table.c.run_id == run_id, carried))
        if coverages:
            connection.execute(insert(ScopeCoverage), [asdict(coverage) | {"run_id": run_id} for coverage in coverages])


def save_scopes(connection: Connection, run_id: int, finished: Sequence[Finished]) -> Merged:
    """Merge scopes and write their coverage, within the caller's transaction."""
    batch = Batch()
    for scope in finished:
        batch.extend(scope.batch)
    merged = merge(connection, run_id, batch)
    table = ScopeCoverage.__table__
    coverages = [scope.coverage for scope in finished if scope.coverage is not None]
    for coverage in coverages:
        connection.execute(
            delete(ScopeCoverage).where(
                table.c.run_id == run_id, table.c.account_id == coverage.account_id, table.c.region == coverage.region
            )
        )
    if coverages:
        connection.execute(insert(ScopeCoverage), [asdict(coverage) | {"run_id": run_id} for coverage in coverages])
    crawl_lock.heartbeat(connection, run_id)
    return merged


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """The status and totals of a run."""

    run_id: int
    status: RunStatus
    accounts: int
    scopes: int
    calls: int
    gaps: int

    @property
    def exit_code(self) -> int:
        """0 for a complete crawl, 3 for one with gaps."""
        return 0 if self.status is RunStatus.COMPLETE else 3


def finish(
    connection: Connection,
    run_id: int,
    status: RunStatus | None = None,
    message: str | None = None,
    other_calls: int = 0,
) -> CrawlResult:
    """Close a run and return its totals; the default status is complete, or partial if there is a gap.

    A key whose last use could not be read counts as a gap until it can be, whether or not this run polled it.
    ``other_calls`` are calls outside any scope: organization, sessions, regions, last use.
    """
    table = ScopeCoverage.__table__
    of_run = (table.c.run_id == run_id) & table.c.read_run_id.is_(None)
    rows = connection.execute(
        select(table.c.account_id, table.c.calls, table.c.gaps, table.c.outcome).where(of_run)
    ).all()
    crawled = [row for row in rows if row.outcome in {Outcome.COMPLETE, Outcome.PARTIAL} and row.calls]
    gaps = sum(row.gaps for row in rows) + _last_use_gaps(connection, run_id)
    result = CrawlResult(
        run_id,
        status or (RunStatus.PARTIAL if gaps else RunStatus.COMPLETE),
        len({row.account_id for row in crawled}),
        len(crawled),
        sum(row.calls for row in rows) + other_calls,
        gaps,
    )
    values = {**asdict(result), "status": str(result.status), "finished_at": dt.datetime.now(dt.UTC)}
    connection.execute(update(Run).where(Run.run_id == run_id).values(message=message, **values))
    return result


def _last_use_gaps(connection: Connection, run_id: int) -> int:
    """Count the keys whose last use could not be read, in the accounts and regions of the run."""
    limits = connection.execute(select(Run.only_accounts, Run.only_regions).where(Run.run_id == run_id)).one()
    gap = KeyLastUseGap.table()
    if limits.only_accounts is None and limits.only_regions is None:
        query = select(func.count()).select_from(gap).where(gap.c.valid_to.is_(None))
        return int(connection.execute(query).scalar_one())
    accounts, regions = (frozenset((names or "").split(",")) for names in limits)
    arns = connection.execute(select(gap.c.key_arn).where(gap.c.valid_to.is_(None))).scalars()
    places = [arn.split(":")[3:5] for arn in arns]
    return sum(
        (limits.only_regions is None or region in regions) and (limits.only_accounts is None or account in accounts)
        for region, account in places
    )


class _Signal(Enum):
    """Completes a batch of the writer's queue."""

    COMMIT = auto()
    STOP = auto()


class ScopeWriter:
    """A thread that writes finished scopes to the ledger; its first error stops the crawl."""

    def __init__(
        self, engine: Engine, run_id: int, on_saved: Callable[[Sequence[Coverage]], None] = lambda _coverage: None
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._on_saved = on_saved
        """Called in the writer thread with the coverage of committed scopes."""
        self._queue: queue.Queue[Finished | Packed | _Signal] = queue.Queue(maxsize=4 * BATCH_SCOPES)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self.error: BaseException | None = None
        self.merged = Merged()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def put(self, finished: Finished | Packed) -> None:
        """Enqueue a scope; blocks while the queue is full, and raises the error of the thread."""
        while True:
            self.check()
            try:
                self._queue.put(finished, timeout=0.5)
            except queue.Full:
                continue
            return

    def drain(self) -> None:
        """Commit all enqueued scopes, without waiting for others; raises the error of the thread."""
        self._queue.put(_Signal.COMMIT)
        self._queue.join()
        self.check()

    def close(self) -> None:
        """Save the enqueued scopes and stop the thread."""
        if self._thread.is_alive():
            self._queue.put(_Signal.STOP)
            self._thread.join()

    def check(self) -> None:
        """Raise the error of the thread, if any."""
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        item: Finished | Packed | _Signal | None = None
        while item is not _Signal.STOP:
            scopes: list[Finished | Packed] = []
            size = 0
            try:
                item = self._queue.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                self._write(scopes)
                continue
            deadline = time.monotonic() + MAX_DELAY_S
            while not isinstance(item, _Signal):
                scopes.append(item)
                size += len(item.data) if isinstance(item, Packed) else 0
                if len(scopes) >= BATCH_SCOPES or size >= BATCH_BYTES:
                    break
                try:
                    item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
            if scopes:
                self._write(scopes)
            for _ in range(len(scopes) + isinstance(item, _Signal)):
                self._queue.task_done()

    def _write(self, scopes: Sequence[Finished | Packed]) -> None:
        """Save scopes; without any, only renew the crawl lock."""
        if self.error is not None:
            return
        try:
            finished = [scope.unpack() if isinstance(scope, Packed) else scope for scope in scopes]
            with translate_errors(self._engine), self._engine.begin() as connection:
                self.merged += save_scopes(connection, self._run_id, finished)
            self._on_saved([scope.coverage for scope in finished if scope.coverage is not None])
        except Exception as error:  # noqa: BLE001 - put() and check() raise it in the crawl's thread
            self.error = error
