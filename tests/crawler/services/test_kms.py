"""KMS keys: what their responses become in the ledger."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from crawler.collector import CollectOptions, collect
from crawler.spec import Scope
from models.tables.keys import KeyRotation
from tests.crawler.sample_resources import sample_aws
from tests.crawler.scripted_aws import ACCOUNT, REGION, Caller, Result, aws_error, client_for

NEXT = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"KeyRotationEnabled": False}, ("disabled", None, None)),
        (
            {"KeyRotationEnabled": True, "RotationPeriodInDays": 180, "NextRotationDate": NEXT},
            ("enabled", 180, NEXT),
        ),
        (
            aws_error("UnsupportedOperationException", "origin is EXTERNAL which is not valid for this operation."),
            ("not_applicable", None, None),
        ),
    ],
)
def test_the_rotation_status_is_stored(response: Result, expected: tuple[Any, ...]) -> None:
    """GetKeyRotationStatus distinguishes enabled, disabled and, by its error, keys that cannot rotate."""
    aws = sample_aws()
    aws.answers["kms:GetKeyRotationStatus"] = response

    async def run() -> list[Mapping[str, Any]]:
        collected = await collect(client_for(aws), Caller(), Scope(ACCOUNT, REGION), CollectOptions())
        return list(collected.batch.rows[KeyRotation])

    rows = [row for row in asyncio.run(run()) if row["reason"] is None or "does not support" in row["reason"]]
    assert rows
    assert {(row["status"], row["period_days"], row["next_rotation_at"]) for row in rows} == {expected}
