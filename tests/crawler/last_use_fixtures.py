"""PollingLedger of a ledger whose keys are asked for their last use: the lanes are real, AWS is scripted."""

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
PLAIN: dict[str, Any] = {"KeyLastUsage": {}, "TrackingStartDate": TRACKED, "KeyCreationDate": TRACKED}
USAGE = {"Operation": "Decrypt", "Timestamp": USED, "CloudTrailEventId": "event-1", "KmsRequestId": "request-1"}


def arn(number: int, region: str = REGION) -> str:
    """The ARN of the n-th key; their order is that of their numbers."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{number:04}"


def days_ago(days: float) -> dt.datetime:
    """An instant of the past."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


class PollingLedger:
    """A ledger with keys in it, and the polling on which they are asked."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.puts: list[Batch] = []

    def keys(self, numbers: range, region: str = REGION, manager: str | None = "CUSTOMER") -> None:
        """Add keys; with no manager nothing but their existence is known."""
        batch = Batch()
        for number in numbers:
            where = {"account_id": ACCOUNT, "region": region}
            batch.add(Key, key_arn=arn(number, region), key_id=f"{number:04}", **where)
            if manager:
                empty = dict.fromkeys(KeyMetadata.value_columns())
                batch.add(KeyMetadata, **{**empty, "key_arn": arn(number, region), "manager": manager})
        self.merge(self.run(), batch)

    def set_polled(self, numbers: range | list[int], at: dt.datetime) -> None:
        """State when keys were asked, by an earlier run."""
        self.merge(
            self.run(), Batch(last_use_polls=[LastUsePoll(arn(number), ACCOUNT, REGION, at) for number in numbers])
        )

    def run(self) -> int:
        """Begin another run."""
        values = {"started_at": dt.datetime.now(dt.UTC), "status": str(RunStatus.RUNNING), "version": "test"}
        with self.ledger.engine.begin() as connection:
            return int(connection.execute(insert(Run).values(values).returning(Run.run_id)).scalar_one())

    def ask(self, aws: ScriptedAws, *, run_id: int | None = None, **options: Any) -> LastUsePoller:
        """One night: the keys of the region are asked until all lanes are done."""

        async def scenario() -> LastUsePoller:
            lanes = self.lanes(aws, run_id=run_id, **options)
            lanes.enqueue(ACCOUNT, REGION)
            await lanes.finish()
            return lanes

        return asyncio.run(scenario())

    def lanes(
        self,
        aws: ScriptedAws,
        *,
        run_id: int | None = None,
        provider: Callable[[str], Awaitable[Any]] | None = None,
        attempts: int = 1,
        **settings: Any,
    ) -> LastUsePoller:
        """The lanes of a night; make them where an event loop runs."""
        run = run_id or self.run()

        async def put(_: Coverage | None, batch: Batch) -> None:
            self.puts.append(batch)
            await asyncio.to_thread(self.merge, run, batch)

        async def caller(account_id: str) -> Caller:
            return Caller(account_id)

        client = client_for(aws, attempts=attempts)
        return LastUsePoller(self.ledger.engine, run, client, LastUseSettings(**settings), provider or caller, put)

    def last_asked(self) -> dict[str, int]:
        """The run that last asked each key."""
        table = KeyLastUsePoll.__table__
        with self.ledger.engine.connect() as connection:
            return {row.key_arn: row.run_id for row in connection.execute(select(table))}

    def merge(self, run_id: int, batch: Batch) -> None:
        """Bring the ledger to what a batch says."""
        with self.ledger.engine.begin() as connection:
            merge(connection, run_id, batch)


def answering(answer: Answer = PLAIN) -> ScriptedAws:
    """An AWS that answers the question."""
    return ScriptedAws({OPERATION: answer})


def only(number: int, answer: Result) -> ScriptedAws:
    """An answer for one key; the others were never used."""
    return answering(lambda call: answer if call["KeyId"] == arn(number) else PLAIN)


def asked_keys(aws: ScriptedAws) -> list[str]:
    """The keys in the order in which they were asked."""
    return [call["KeyId"] for call in aws.of(OPERATION)]


def arns(*numbers: int) -> list[str]:
    """The ARNs of these keys."""
    return [arn(number) for number in numbers]
