"""One endpoint in a thread for all tests of a worker; each test resets what it changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset


@pytest.fixture(scope="session")
def endpoint() -> Iterator[FakeAws]:
    with FakeAws(preset("tiny", seed=7)) as fake:
        yield fake


@pytest.fixture
def fake(endpoint: FakeAws) -> Iterator[FakeAws]:
    """The endpoint without faults, on day 0."""
    endpoint.control.reset()
    yield endpoint
    endpoint.control.faults()
    endpoint.control.set_day(0)
