"""The speed benchmarks run in small sizes and report their metrics; budgets are only checked at full size."""

from __future__ import annotations

import pytest

from benchmarks import call_cpu, crawl_cpu, mart

pytestmark = pytest.mark.deep


def test_calls_are_compared_pair_by_pair() -> None:
    """Both clients make the same calls, and the crawler client uses less CPU even in a small round."""
    figures = {figure.what: figure for figure in call_cpu.measure(quick=True)}
    ratio = figures["KMS calls: crawler client / boto3 (median)"]
    assert 0 < ratio.value < 1
    assert ratio.budget is None


def test_a_crawl_is_compared_with_the_script() -> None:
    """Crawl and script make the same calls, and the endpoint counts the connections."""
    figures = {figure.what: figure for figure in crawl_cpu.measure(quick=True)}
    assert figures["crawl: crawl / script (median)"].value > 0
    assert figures["connections: 6 / 3 accounts"].value > 0


def test_the_mart_is_updated_incrementally() -> None:
    """A mart with a long history is built and updated incrementally, and the cost of each step is reported."""
    figures = {figure.what: figure for figure in mart.measure(quick=True, runs=2)}
    assert figures["mart: first update, rows written to the ledger"].value > 0
    assert figures["mart: first update, incremental build, elapsed"].value > 0
    assert figures["mart: first update, all rules, elapsed"].value > 0
    assert figures["mart: first update, incremental build, elapsed"].budget is None
    assert figures["mart: cookbook queries"].value >= 30
    # As in a real organization, only some resources have problems.
    assert 0 < figures["mart: open problems"].value < figures["mart: keys"].value / 10
    assert 0 < figures["mart: report overview, size"].value <= (figures["mart: report overview, size"].budget or 0)
