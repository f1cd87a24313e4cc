"""The stages of a run: named in the log and in messages about a failure, and timed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from models.process_memory import release_memory

STAGES: Final = ("crawl", "access", "mart", "rules", "reports", "delivery")
"""In this order; `rules` ends before `mart`, which publishes its results."""

log = logging.getLogger(__name__)

_DURATIONS: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run a stage: log and keep its duration, and name it in an exception that leaves the block (see :func:`failed_stage`)."""
    started = time.monotonic()
    try:
        yield
    except BaseException as error:
        if failed_stage(error) is None:
            error.__dict__["kmsledger_stage"] = name
        raise
    finally:
        _DURATIONS[name] = time.monotonic() - started
    log.info("stage %s took %.1f s", name, _DURATIONS[name])
    release_memory()


def failed_stage(error: BaseException) -> str | None:
    """The innermost stage that an exception, or the one that caused it, has left."""
    found: BaseException | None = error
    while found is not None:
        if name := found.__dict__.get("kmsledger_stage"):
            return str(name)
        found = found.__cause__
    return None


def durations() -> Mapping[str, float]:
    """The seconds that each stage of this process took."""
    return dict(_DURATIONS)
