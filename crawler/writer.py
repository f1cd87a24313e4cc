"""Saving: scopes are merged in batches, each scope together with its coverage, by one thread that keeps up with many."""

from __future__ import annotations

import datetime as dt
import pickle
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, SupportsIndex

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from models.errors import UserError
from models.store import crawl_lock
from models.store.engine import translate_errors
from models.store.scd2_merge import Batch, Merged, merge
from models.tables.keys import KeyLastUseGap
from models.tables.runs import Outcome, Run, RunStatus, ScopeRun

TOGETHER = 50
"""Scopes merged in one transaction at most, when more than one is waiting."""

BYTES_TOGETHER = 4 * 1024 * 1024
"""Packed scopes of so many bytes are enough for one transaction."""

LINGER = 0.25
"""Seconds that a scope waits for others to be saved with: a merge costs more than the rows of a small one."""

WORTH_COMPRESSING = 64 * 1024
"""Bytes. Hundreds of scopes may wait while a giant one is saved."""

SIGN_OF_LIFE = 60.0
"""Seconds without anything to save after which the lock is told that the crawl is alive."""


WHOLE_ACCOUNT = "*"
"""The region of coverage and gaps that concern an account as a whole."""
ORGANIZATION = "organization"
"""The region under which coverage and gaps of the organization itself are filed."""


class NothingToResumeError(UserError):
    """There is no unfinished run."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of one scope; a row of ``scope_run``."""

    account_id: str
    region: str
    outcome: str
    reason: str | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    calls: int = 0
    retries: int = 0
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """A scope's coverage and its facts, to be committed as one; facts of no scope have no coverage."""

    coverage: Coverage | None
    batch: Batch


@dataclass(frozen=True, slots=True)
class Packed:
    """A :class:`Finished` from another process: unpacked when it is saved, so that what waits takes little room."""

    coverage: Coverage
    data: bytes
    pieces: tuple[bytes, ...] = ()
    """Most of a large scope, which is handed on as it is: a copy of it would cost more than all the rest."""
    compressed: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data) + sum(map(len, self.pieces))

    def unpack(self) -> Finished:
        """What was packed."""
        data = zlib.decompress(self.data) if self.compressed else self.data
        found: Finished = pickle.loads(data, buffers=self.pieces)  # noqa: S301 - from a process that works for this crawl
        return found

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        apart = int(protocol) >= 5
        pieces = tuple(pickle.PickleBuffer(piece) if apart else piece for piece in self.pieces)
        return Packed, (self.coverage, self.data, pieces, self.compressed)


def pack(finished: Finished) -> Packed:
    """What was finished, ready to be sent to the process that saves; it must have coverage."""
    assert finished.coverage is not None  # noqa: S101 - only facts of no scope have none, and they are not sent
    apart: list[pickle.PickleBuffer] = []
    data = pickle.dumps(finished, pickle.HIGHEST_PROTOCOL, buffer_callback=apart.append)
    compressed = len(data) > WORTH_COMPRESSING
    if compressed:
        data = zlib.compress(data, 1)
    pieces = (buffer.raw().obj for buffer in apart)
    return Packed(finished.coverage, data, tuple(piece for piece in pieces if isinstance(piece, bytes)), compressed)


def start(engine: Engine, version: str) -> int:
    """Open a run and lock the database for it; refused while another crawl is alive."""
    with translate_errors(engine), engine.begin() as connection:
        values = {"started_at": dt.datetime.now(dt.UTC), "status": str(RunStatus.RUNNING), "version": version}
        run_id: int = connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one()
        crawl_lock.acquire(connection, run_id)
    return run_id


def resume(engine: Engine) -> int:
    """Go on with the last run, which was interrupted or failed; :class:`NothingToResumeError` when it had ended."""
    with translate_errors(engine), engine.begin() as connection:
        last = connection.execute(select(Run.run_id, Run.status).order_by(Run.run_id.desc()).limit(1)).first()
        if last is None:
            raise NothingToResumeError("there is no run to resume: start one with `kmsledger crawl`")
        if last.status in {RunStatus.COMPLETE, RunStatus.PARTIAL}:
            raise NothingToResumeError(f"run {last.run_id} had ended: start a new one with `kmsledger crawl`")
        run_id: int = last.run_id
        crawl_lock.acquire(connection, run_id)
        # What failed is tried again, and writes its coverage again.
        again = (str(Outcome.COMPLETE), str(Outcome.PARTIAL))
        whole = ScopeRun.region.in_((WHOLE_ACCOUNT, ORGANIZATION)) | ScopeRun.outcome.not_in(again)
        connection.execute(delete(ScopeRun).where(ScopeRun.run_id == run_id, whole))
        connection.execute(
            update(Run)
            .where(Run.run_id == run_id)
            .values(status=str(RunStatus.RUNNING), finished_at=None, message=None)
        )
    return run_id


def saved_scopes(engine: Engine, run_id: int) -> frozenset[tuple[str, str]]:
    """Account and region of the scopes that this run has already saved."""
    query = select(ScopeRun.account_id, ScopeRun.region).where(
        ScopeRun.run_id == run_id, ScopeRun.outcome.in_([str(Outcome.COMPLETE), str(Outcome.PARTIAL)])
    )
    with translate_errors(engine), engine.connect() as connection:
        return frozenset((account, region) for account, region in connection.execute(query))


def describe(engine: Engine, run_id: int, **values: str | int | None) -> None:
    """Record what is known of a run: who crawls, which organization."""
    with translate_errors(engine), engine.begin() as connection:
        connection.execute(update(Run).where(Run.run_id == run_id).values(values))


def save(connection: Connection, run_id: int, finished: Sequence[Finished]) -> Merged:
    """Merge some scopes and write their coverage, within the caller's transaction."""
    batch = Batch()
    for one in finished:
        batch.extend(one.batch)
    merged = merge(connection, run_id, batch)
    table = ScopeRun.__table__
    covered = [one.coverage for one in finished if one.coverage is not None]
    for coverage in covered:
        connection.execute(
            delete(ScopeRun).where(
                table.c.run_id == run_id, table.c.account_id == coverage.account_id, table.c.region == coverage.region
            )
        )
    rows = [
        {name: getattr(coverage, name) for name in Coverage.__dataclass_fields__} | {"run_id": run_id}
        for coverage in covered
    ]
    if rows:
        connection.execute(insert(ScopeRun), rows)
    crawl_lock.heartbeat(connection, run_id)
    return merged


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run covered, added up over its scopes."""

    status: RunStatus
    accounts: int
    scopes: int
    calls: int
    gaps: int


def finish(
    connection: Connection,
    run_id: int,
    status: RunStatus | None = None,
    message: str | None = None,
    other_calls: int = 0,
) -> Totals:
    """Close a run, adding up its coverage; without a status it is complete, or partial when anything is missing.

    Keys that refused to tell their last use count as gaps until they tell it, whether or not this run asked them.
    ``other_calls`` are those that belong to no scope: the organization, sessions, regions, last use.
    """
    table = ScopeRun.__table__
    rows = connection.execute(
        select(table.c.account_id, table.c.calls, table.c.gaps, table.c.outcome).where(table.c.run_id == run_id)
    ).all()
    crawled = [row for row in rows if row.outcome in {Outcome.COMPLETE, Outcome.PARTIAL} and row.calls]
    refused = select(func.count()).select_from(KeyLastUseGap).where(KeyLastUseGap.valid_to.is_(None))
    gaps = sum(row.gaps for row in rows) + connection.execute(refused).scalar_one()
    totals = Totals(
        status or (RunStatus.PARTIAL if gaps else RunStatus.COMPLETE),
        len({row.account_id for row in crawled}),
        len(crawled),
        sum(row.calls for row in rows) + other_calls,
        gaps,
    )
    values = {**asdict(totals), "status": str(totals.status)}
    ended = dt.datetime.now(dt.UTC)
    connection.execute(update(Run).where(Run.run_id == run_id).values(finished_at=ended, message=message, **values))
    return totals


class Saver:
    """The saving thread. Give it finished scopes; ask it to end; its first error stops the crawl."""

    def __init__(
        self, engine: Engine, run_id: int, saved: Callable[[Sequence[Coverage]], None] = lambda _coverage: None
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._told = saved
        """Called, in this thread, with the coverage of what was committed."""
        self._waiting: queue.Queue[Finished | Packed | None] = queue.Queue(maxsize=4 * TOGETHER)
        self._thread = threading.Thread(target=self._work, name="save", daemon=True)
        self.error: BaseException | None = None
        self.merged = Merged()
        self.saved = 0
        self._given = 0
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def put(self, finished: Finished | Packed) -> None:
        """Hand over a scope; waits when saving cannot keep up, and raises what went wrong there."""
        while True:
            self._raise()
            try:
                self._waiting.put(finished, timeout=0.5)
            except queue.Full:
                continue
            with self._counting:
                self._given += 1
            return

    def drain(self) -> None:
        """Return when all that was handed over is committed; raises what went wrong."""
        while self._given > self.saved:
            self._raise()
            time.sleep(0.02)
        self._raise()

    def close(self) -> None:
        """Save what is waiting, then end."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        ended = False
        while not ended:
            together: list[Finished | Packed] = []
            size = 0
            try:
                one = self._waiting.get(timeout=SIGN_OF_LIFE)
            except queue.Empty:
                self._write(together)
                continue
            lingers = time.monotonic() + LINGER
            while one is not None:
                together.append(one)
                size += one.size if isinstance(one, Packed) else 0
                if len(together) >= TOGETHER or size >= BYTES_TOGETHER:
                    break
                try:
                    one = self._waiting.get(timeout=max(0.0, lingers - time.monotonic()))
                except queue.Empty:
                    break
            ended = one is None
            if together:
                self._write(together)

    def _write(self, together: Sequence[Finished | Packed]) -> None:
        """Save some scopes; with none it is only a sign of life."""
        if self.error is not None:
            return
        try:
            finished = [one.unpack() if isinstance(one, Packed) else one for one in together]
            with translate_errors(self._engine), self._engine.begin() as connection:
                self.merged += save(connection, self._run_id, finished)
            self._told([one.coverage for one in finished if one.coverage is not None])
            self.saved += len(together)
        except Exception as error:  # noqa: BLE001 - carried to the crawl's own thread by put() and check(), which raise it
            self.error = error
