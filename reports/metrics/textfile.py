"""Writes metrics for the textfile collector of Prometheus' node exporter (extra `metrics`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models.output_file import replacing
from reports.metrics.samples import Metric, MetricsError

_MODE: Final = 0o644
"""The node exporter runs as another user; the metrics have account IDs, but no other data."""


def check() -> None:
    """Raise MetricsError if the library is missing."""
    try:
        import prometheus_client  # noqa: F401 - whether it is installed
    except ModuleNotFoundError as error:
        raise MetricsError("metrics.textfile needs the extra `metrics`: pip install 'kmsledger[metrics]'") from error


def write(metrics: Sequence[Metric], path: Path) -> None:
    """Replace the file. Raises OSError and UserError."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    for metric in metrics:
        gauge = Gauge(metric.name, metric.about, metric.labels, registry=registry)
        for values, number in metric.samples:
            (gauge.labels(*values) if values else gauge).set(number)
    with replacing(path) as unfinished:
        unfinished.write_bytes(generate_latest(registry))
    path.chmod(_MODE)
