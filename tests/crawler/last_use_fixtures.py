"""A ledger with keys for tests of last-use polling: the poller is real, AWS is scripted."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import insert, select

from crawler.services.key_last_usage import LastUsePoller
from crawler.writer import Coverage
from models.settings.crawl import LastUseSettings
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, merge
from models.tables.keys import Key, KeyLastUsePoll, KeyMetadata
from models.tables.runs import Run, RunStatus
from tests.crawler.empty_ledger import Ledger
from tests.crawler.scripted_aws import ACCOUNT, REGION, Answer, Caller, Result, ScriptedAws, client_for

OPERATION = "kms:GetKeyLastUsage"
TRACKED = dt.datetime(2026, 3, 11, 18, 23, 45, tzinfo=dt.UTC)
USED = dt.datetime(2026, 11, 20, 9, 30, tzinfo=dt.UTC)
OTHER_REGION = "us-east-1"
UNUSED: dict[str, Any] = {"KeyLastUsage": {}, "TrackingStartDate": TRACKED, "KeyCreationDate": TRACKED}
USAGE = {"Operation": "Decrypt", "Timestamp": USED, "CloudTrailEventId": "event-1", "KmsRequestId": "request-1"}


def arn(number: int, region: str = REGION) -> str:
    """Return the ARN of the n-th key, in sort order."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{number:04}"


def days_ago(days: float) -> dt.datetime:
    """Return a past time."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


class PollingLedger:
    """A ledger with keys, and the runs that poll them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.puts: list[Batch] = []

    def keys(self, numbers: range, region: str = REGION, manager: str | None = "CUSTOMER") -> None:
        """Add keys, with metadata unless they have no manager."""
        batch = Batch()
        for number in numbers:
            where = {"account_id": ACCOUNT, "region": region}
            batch.add(Key, key_arn=arn(number, region), key_id=f"{number:04}", **where)
            if manager:
                empty = dict.fromkeys(KeyMetadata.value_columns())
                batch.add(KeyMetadata, **{**empty, "key_arn": arn(number, region), "manager": manager})
        self.merge(self.run(), batch)

    def set_polled(self, numbers: range | list[int], at: dt.datetime) -> None:
        """Record that keys were polled by an earlier run."""
        self.merge(
            self.run(), Batch(last_use_polls=[LastUsePoll(arn(number), ACCOUNT, REGION, at) for number in numbers])
        )

    def run(self) -> int:
        """Start another run."""
        values = {"started_at": dt.datetime.now(dt.UTC), "status": str(RunStatus.RUNNING), "version": "test"}
        with self.ledger.engine.begin() as connection:
            return int(connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one())

    def poll(self, aws: ScriptedAws, *, run_id: int | None = None, **options: Any) -> LastUsePoller:
        """Poll the keys of the region in one run."""

        async def scenario() -> LastUsePoller:
            poller = self.create_poller(aws, run_id=run_id, **options)
            poller.enqueue(ACCOUNT, REGION)
            await poller.finish()
            return poller

        return asyncio.run(scenario())

    def create_poller(
        self,
        aws: ScriptedAws,
        *,
        run_id: int | None = None,
        provider: Callable[[str], Awaitable[Any]] | None = None,
        attempts: int = 1,
        **settings: Any,
    ) -> LastUsePoller:
        """Return the poller of a run; requires a running event loop."""
        run = run_id or self.run()

        async def put(_: Coverage | None, batch: Batch) -> None:
            self.puts.append(batch)
            await asyncio.to_thread(self.merge, run, batch)

        async def caller(account_id: str) -> Caller:
            return Caller(account_id)

        client = client_for(aws, attempts=attempts)
        return LastUsePoller(self.ledger.engine, run, client, LastUseSettings(**settings), provider or caller, put)

    def last_polled(self) -> dict[str, int]:
        """Return the last run that polled each key."""
        table = KeyLastUsePoll.__table__
        with self.ledger.engine.connect() as connection:
            return {row.key_arn: row.run_id for row in connection.execute(select(table))}

    def merge(self, run_id: int, batch: Batch) -> None:
        """Merge a batch into the ledger."""
        with self.ledger.engine.begin() as connection:
            merge(connection, run_id, batch)


def scripted(answer: Answer = UNUSED) -> ScriptedAws:
    """Return a scripted AWS that supports the operation."""
    return ScriptedAws({OPERATION: answer})


def only(number: int, answer: Result) -> ScriptedAws:
    """Return a scripted AWS with a response for one key; the others were never used."""
    return scripted(lambda call: answer if call["KeyId"] == arn(number) else UNUSED)


def polled_keys(aws: ScriptedAws) -> list[str]:
    """Return the keys in the order of polling."""
    return [call["KeyId"] for call in aws.of(OPERATION)]


def arns(*numbers: int) -> list[str]:
    """Return the ARNs of these keys."""
    return [arn(number) for number in numbers]
