"""Scenarios that share a ledger, because a mart for each of them would cost more than all their data."""

from __future__ import annotations

from collections.abc import Iterator

from tests.reports.ledger_builder import LedgerBuilder


def crawl_side_by_side(world: LedgerBuilder, *scenarios: Iterator[None]) -> None:
    """Crawl until all scenarios have ended: a scenario changes its own accounts, and each `yield` in it is a run."""
    active = list(scenarios)
    while active := [scenario for scenario in active if next(scenario, False) is None]:
        world.crawl()
