"""Politeness: what is let through, how it narrows, and what it costs nobody else."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.aws.pace import NARROWEST, RATES, Pace
from crawler.kms import LIST_GRANTS, LIST_KEYS
from crawler.usage import DB_CLUSTER, DB_INSTANCE

WINDOW = 10.0
SHARE = 0.25


def times(pace: Pace, calls: int, gaps: list[float]) -> list[float]:
    """When each call may be made, if the next is wanted so many seconds after the one before was."""
    wanted, made = 0.0, []
    for gap in itertools.islice(itertools.cycle(gaps), calls):
        wanted += gap
        made.append(wanted + pace._bucket("111122223333", "eu-west-1", LIST_GRANTS, wanted).take(wanted))
    return made


@given(gaps=st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_no_ten_seconds_hold_more_than_our_share(gaps: list[float]) -> None:
    """However the calls come, never more than a quarter of the quota is used in any ten seconds."""
    made = times(Pace(SHARE), 600, gaps)
    most = max(sum(start <= moment < start + WINDOW for moment in made) for start in made)
    assert most <= SHARE * RATES["kms:ListGrants"] * WINDOW


def test_a_crowd_is_let_through_at_the_steady_rate() -> None:
    """Calls that all come at once are spread, in order."""
    made = times(Pace(SHARE), 1000, [0.0])
    assert made == sorted(made)
    assert made[-1] == pytest.approx((1000 - 25) / 22.5)


def test_throttling_narrows_and_success_widens_again() -> None:
    """Each throttle halves the rate down to a floor; calls that go through bring it back."""
    pace = Pace(SHARE)
    bucket = pace._bucket("111122223333", "eu-west-1", LIST_GRANTS, 0.0)

    async def go() -> None:
        for _ in range(10):
            pace.throttled("111122223333", "eu-west-1", LIST_GRANTS)

    asyncio.run(go())
    assert bucket.factor == NARROWEST
    for _ in range(100):
        pace.accepted("111122223333", "eu-west-1", LIST_GRANTS)
    assert bucket.factor == 1.0


def test_buckets_are_apart_by_account_region_and_operation_and_shared_by_a_service() -> None:
    """One account's throttling slows no other; operations of a service without published rates share one bucket."""
    pace = Pace(SHARE)
    one = pace._bucket("111122223333", "eu-west-1", LIST_GRANTS, 0.0)
    others = [
        pace._bucket("444455556666", "eu-west-1", LIST_GRANTS, 0.0),
        pace._bucket("111122223333", "us-east-1", LIST_GRANTS, 0.0),
        pace._bucket("111122223333", "eu-west-1", LIST_KEYS, 0.0),
    ]
    assert all(other is not one for other in others)
    instances = pace._bucket("111122223333", "eu-west-1", DB_INSTANCE.listing, 0.0)
    assert instances is pace._bucket("111122223333", "eu-west-1", DB_CLUSTER.listing, 0.0)
    pace.forget("111122223333")
    assert pace._bucket("111122223333", "eu-west-1", LIST_GRANTS, 0.0) is not one
