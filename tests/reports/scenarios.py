"""Scenarios side by side in one ledger, each in an account of its own: a mart takes a second to build, however small it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from tests.reports.ledger_builder import LedgerBuilder

Steps = Callable[[LedgerBuilder, str], Iterator[None]]
"""What happens in an account: each ``yield`` is a crawl of the whole organization. Its ID is the second argument."""


class Scenarios:
    """The scenarios of a test module."""

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
        """Let all scenarios happen, with a crawl after each step; returns the account of each."""
        accounts = {name: f"1111222200{number:02d}" for number, name in enumerate(self._steps)}
        running = [steps(world, accounts[name]) for name, steps in self._steps.items()]
        while running := [steps for steps in running if next(steps, "end") != "end"]:
            world.crawl()
        return accounts
