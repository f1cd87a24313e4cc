"""The polling order of kms:GetKeyLastUsage, on both engines."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, Engine, select

from models.store.last_use_queue import DueKey, LastUsePoll, count_polled, next_due
from models.store.scd2_merge import Batch, merge
from models.tables.keys import Key, KeyLastUsePoll, KeyMetadata

ACCOUNT, REGION = "111122223333", "eu-west-1"
WEEK_AGO = dt.datetime(2026, 11, 15, 3, 0, tzinfo=dt.UTC)
EARLIER, LATER = WEEK_AGO - dt.timedelta(days=9), WEEK_AGO - dt.timedelta(days=2)
YESTERDAY = WEEK_AGO + dt.timedelta(days=6)


def arn(number: int) -> str:
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{number:05}"


def fill(connection: Connection, keys: int, polls: dict[int, dt.datetime]) -> None:
    batch = Batch()
    for number in range(keys):
        batch.add(Key, key_arn=arn(number), key_id=str(number), account_id=ACCOUNT, region=REGION)
        values = dict.fromkeys(KeyMetadata.value_columns())
        batch.add(KeyMetadata, **{**values, "key_arn": arn(number), "manager": "AWS" if number == 0 else "CUSTOMER"})
    batch.last_use_polls = [LastUsePoll(arn(number), ACCOUNT, REGION, at) for number, at in polls.items()]
    merge(connection, 1, batch)


def pages(connection: Connection, limit: int) -> list[list[DueKey]]:
    keys: list[list[DueKey]] = []
    last: DueKey | None = None
    while True:
        page = list(next_due(connection, account_id=ACCOUNT, region=REGION, before=WEEK_AGO, after=last, limit=limit))
        if not page:
            return keys
        keys.append(page)
        last = page[-1]


def test_the_polling_order_does_not_depend_on_the_page_size(ledger: Engine) -> None:
    """Keys never polled come first by ARN, then by the time of the last poll and ARN; no key is missing or repeated."""
    polls = {1: LATER, 2: EARLIER, 3: LATER, 4: EARLIER, 5: YESTERDAY, 6: LATER}
    expected = [
        *(DueKey(arn(number), None) for number in (7, 8, 9)),
        *(DueKey(arn(number), EARLIER) for number in (2, 4)),
        *(DueKey(arn(number), LATER) for number in (1, 3, 6)),
    ]
    with ledger.begin() as connection:
        fill(connection, 10, polls)
        for limit in (1, 2, 3, 4, 100):
            keys = pages(connection, limit)
            assert [key for page in keys for key in page] == expected
            assert all(len(page) == limit for page in keys[:-1])


def test_the_last_poll_of_a_key_replaces_the_earlier_one(ledger: Engine) -> None:
    """A key that is polled again has one row, of the later run, also if many rows are written at once."""
    many = dict.fromkeys(range(1, 1001), EARLIER)
    with ledger.begin() as connection:
        fill(connection, 1001, many)
        again = Batch(last_use_polls=[LastUsePoll(arn(number), ACCOUNT, REGION, YESTERDAY) for number in range(1, 401)])
        merge(connection, 2, again)
        scope = {"account_id": ACCOUNT, "region": REGION}
        assert count_polled(connection, run_id=1, **scope) == 600
        assert count_polled(connection, run_id=2, **scope) == 400
        assert count_polled(connection, run_id=2, account_id=ACCOUNT, region="us-east-1") == 0
        row = connection.execute(select(KeyLastUsePoll.__table__).where(KeyLastUsePoll.key_arn == arn(7))).one()
        assert (row.polled_at, row.run_id) == (YESTERDAY, 2)
        assert len(pages(connection, 1000)[0]) == 600
