"""How many examples a property test runs: few under `make test`, many under `make test-deep`.

The environment variable ``KMSLEDGER_TEST_PROFILE`` chooses between ``fast``, the default, and ``deep``. ``make test-deep``
sets it, and selects the property tests besides those marked ``deep``: hypothesis' pytest plugin gives each of them the marker
``hypothesis``. So one test serves both, and needs no marker of its own.

A property test without settings runs the profile's number of examples. A test that needs another number names both::

    @settings(max_examples=examples(fast=20, deep=400))
    @given(...)
    def test_...

No profile has a deadline, because a loaded machine is not a defect. With ``CI`` set the examples are the same in each run.
"""

from __future__ import annotations

import os

from hypothesis import settings

PROFILES = {"fast": 25, "deep": 300}
"""Examples per property test, unless the test names its own numbers."""


def examples(*, fast: int, deep: int) -> int:
    """The number of examples under the chosen profile."""
    return {"fast": fast, "deep": deep}[_chosen()]


def load() -> None:
    """Register both profiles with hypothesis and load the chosen one."""
    for name, count in PROFILES.items():
        settings.register_profile(
            name, max_examples=count, deadline=None, derandomize="CI" in os.environ, print_blob="CI" in os.environ
        )
    settings.load_profile(_chosen())


def _chosen() -> str:
    name = os.environ.get("KMSLEDGER_TEST_PROFILE", "fast")
    if name not in PROFILES:
        raise ValueError(f"KMSLEDGER_TEST_PROFILE is {name!r}; use one of {', '.join(PROFILES)}")
    return name
