"""Writes and sends the metrics when a nightly run ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import duckdb

from models.call_counters import OperationCounters
from models.console import complain
from models.errors import Collected, UserError
from models.settings import Settings
from models.stages import durations
from models.store.crawl_lock import LockedError
from reports.metrics import otlp, textfile
from reports.metrics.samples import MetricsError, collect

FAILED: Final = 4


def check(settings: Settings) -> None:
    """Raise MetricsError if a library is missing."""
    errors = Collected()
    if settings.metrics.textfile is not None:
        with errors:
            textfile.check()
    if settings.metrics.otlp.endpoint is not None:
        with errors:
            otlp.check()
    errors.reraise()


@dataclass
class NightlyOutcome:
    """What a nightly run reports when it ends: its exit code, and the calls of its crawl by operation."""

    exit_code: int = FAILED
    operations: OperationCounters = field(default_factory=dict)


@contextmanager
def measured(settings: Settings) -> Iterator[NightlyOutcome]:
    """Publish the metrics when the block ends, with or without an error; not when another run excluded this one."""
    outcome = NightlyOutcome()
    try:
        yield outcome
    except LockedError:
        raise
    except Exception as error:
        _publish(settings, error.exit_code if isinstance(error, UserError) else FAILED, outcome.operations)
        raise
    _publish(settings, outcome.exit_code, outcome.operations)


def _publish(settings: Settings, exit_code: int, operations: OperationCounters) -> None:
    """Write and send the metrics of this process's run; an error is printed, not raised."""
    path, collector = settings.metrics.textfile, settings.metrics.otlp
    if path is None and collector.endpoint is None:
        return
    try:
        metrics = collect(settings.report.mart, exit_code, durations(), operations)
    except (UserError, OSError, duckdb.Error) as error:
        complain(f"the metrics could not be read from the mart: {error}")
        return
    if path is not None:
        try:
            textfile.write(metrics, path)
        except (UserError, OSError) as error:
            complain(f"the metrics could not be written: {error}")
    if collector.endpoint is not None:
        try:
            otlp.send(metrics, collector)
        except MetricsError as error:
            complain(f"the metrics could not be sent: {error}")
