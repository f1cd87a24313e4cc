"""The speed benchmarks run in small sizes and report their metrics; budgets are only checked at full size."""

from __future__ import annotations

import pytest

from benchmarks import call_cpu, crawl_cpu, mart

pytestmark = pytest.mark.deep


def test_calls_are_compared_pair_by_pair() -> None:
    """Both ways make the same calls, and ours costs less CPU even in a small round."""
    figures = {figure.what: figure for figure in call_cpu.measure(quick=True)}
    ratio = figures["KMS calls: our wire / boto3 (median)"]
    assert 0 < ratio.value < 1
    assert ratio.budget is None


def test_a_crawl_is_compared_with_the_script() -> None:
    """Crawl and script ask the same of the endpoint, and the endpoint counts the connections."""
    figures = {figure.what: figure for figure in crawl_cpu.measure(quick=True)}
    assert figures["crawl: crawl / script (median)"].value > 0
    assert figures["connections: 6 / 3 accounts"].value > 0


def test_a_night_is_taken_over_by_the_mart() -> None:
    """The ledger of many nights can be built and gone on from, and what that costs is told."""
    figures = {figure.what: figure for figure in mart.measure(quick=True)}
    assert figures["mart: a night, rows written to the ledger"].value > 0
    assert figures["mart: a night taken over, clock"].value > 0
    assert figures["mart: a night, all rules, clock"].value > 0
    assert figures["mart: a night taken over, clock"].budget is None
    assert figures["mart: questions of the cookbook"].value >= 30
