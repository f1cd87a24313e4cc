"""Scenarios side by side in one ledger, each in accounts of its own: a mart takes a second to build, however small it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from tests.reports.ledger_builder import LedgerBuilder

Steps = Callable[[LedgerBuilder, str], Iterator[None]]
"""What happens in an account, whose ID is the second argument: each ``yield`` is a crawl of the whole organization."""


def crawl_side_by_side(world: LedgerBuilder, *scenarios: Iterator[None]) -> None:
    """Crawl until all scenarios have ended: a scenario changes its own accounts, and each `yield` in it is a run."""
    active = list(scenarios)
    while active := [scenario for scenario in active if next(scenario, False) is None]:
        world.crawl()


class Scenarios:
    """The scenarios of a test module, each in one account."""

    def __init__(self) -> None:
        self._steps: dict[Hashable, Steps] = {}

    def __call__(self, steps: Steps) -> Steps:
        """Add a scenario under its function's name."""
        return self.add(steps.__name__, steps)

    def add(self, name: Hashable, steps: Steps) -> Steps:
        """Add a scenario."""
        self._steps[name] = steps
        return steps

    def play(self, world: LedgerBuilder) -> dict[Hashable, str]:
        """Let all scenarios happen; returns the account of each."""
        accounts = {name: f"1111222200{number:02d}" for number, name in enumerate(self._steps)}
        crawl_side_by_side(world, *(steps(world, accounts[name]) for name, steps in self._steps.items()))
        return accounts
