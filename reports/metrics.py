"""Writes metrics about the runs for the textfile collector of Prometheus' node exporter (extra `metrics`).

Account, region and operation are labels of separate metrics, never of one: hundreds of accounts in dozens of regions with dozens
of operations would be a million series, their sum is less than a thousand. What is unknown has no series.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import duckdb

from models.call_counters import OperationCounter, OperationCounters
from models.console import complain
from models.errors import UserError
from models.output_file import replacing
from models.settings import Settings
from models.severities import SEVERITIES
from models.stages import durations
from models.store.crawl_lock import LockedError
from reports.mart.connection import connect
from reports.mart.rows import rows

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FAILED: Final = 4
_MODE: Final = 0o644
"""The node exporter runs as another user; the metrics have account IDs, but no other data."""
_LAST_RUN: Final = """
SELECT run_id, epoch(started_at) AS started, epoch(finished_at) AS finished FROM runs
WHERE status IN ('complete', 'partial') ORDER BY run_id DESC LIMIT 1
"""
_COVERAGE: Final = "SELECT complete, partial, failed, coverage_percent FROM run_coverage WHERE run_id = $run"
_FINDINGS: Final = "SELECT severity, count(*) AS n FROM findings WHERE status = 'fail' GROUP BY severity"
_EVALUATED: Final = "SELECT count(*) AS n FROM rule_results"
_SCOPES: Final = """
SELECT {label}, sum(calls) AS calls, sum(retries) AS retries, sum(gaps) AS gaps, sum(epoch(finished_at - started_at)) AS seconds
FROM internal.scope_coverage WHERE run_id = $run AND internal.in_scope(outcome) GROUP BY {label} ORDER BY {label}
"""
_GAPS: Final = """
SELECT service, operation, count(*) AS n FROM internal.gap WHERE internal.known(valid_from, valid_to, $run)
GROUP BY service, operation ORDER BY service, operation
"""
_OF_SCOPES: Final = (
    ("calls", "Calls to AWS in the last good run, retries included"),
    ("retries", "Repeated calls in the last good run"),
    ("gaps", "Calls that AWS did not answer in the last good run"),
    ("seconds", "Seconds from the start to the end of each account-region in the last good run, added up"),
)


class MetricsError(UserError):
    """The metrics in the settings cannot be written."""

    exit_code = 2


def check(settings: Settings) -> None:
    """Raise MetricsError if the library is missing."""
    if settings.metrics.textfile is None:
        return
    try:
        import prometheus_client  # noqa: F401 - whether it is installed
    except ModuleNotFoundError as error:
        raise MetricsError("metrics.textfile needs the extra `metrics`: pip install 'kmsledger[metrics]'") from error


@dataclass
class NightlyOutcome:
    """What a nightly run reports when it ends: its exit code, and the calls of its crawl by operation."""

    exit_code: int = FAILED
    operations: OperationCounters = field(default_factory=dict)


@contextmanager
def measured(settings: Settings) -> Iterator[NightlyOutcome]:
    """Write the metrics when the block ends, with or without an error; not when another run excluded this one."""
    outcome = NightlyOutcome()
    try:
        yield outcome
    except LockedError:
        raise
    except UserError as error:
        write(settings, error.exit_code, durations(), outcome.operations)
        raise
    except Exception:
        write(settings, FAILED, durations(), outcome.operations)
        raise
    else:
        write(settings, outcome.exit_code, durations(), outcome.operations)


def write(
    settings: Settings, exit_code: int, stages: Mapping[str, float], operations: Mapping[str, OperationCounter]
) -> None:
    """Write the metrics after a nightly run, successful or not, in place of the last ones; an error is printed, not raised.

    ``stages`` are the seconds of the stages, ``operations`` the calls of the crawl, both of this process.
    """
    if settings.metrics.textfile is None:
        return
    try:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        _attempt(registry, exit_code, stages, operations)
        if settings.report.mart.exists():
            with connect(settings.report.mart) as mart:
                _last_good_run(registry, mart)
        with replacing(settings.metrics.textfile) as unfinished:
            unfinished.write_bytes(generate_latest(registry))
        settings.metrics.textfile.chmod(_MODE)
    except (UserError, OSError, duckdb.Error) as error:
        complain(f"the metrics could not be written: {error}")


def _gauge(
    registry: CollectorRegistry,
    name: str,
    about: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], Any]],
) -> None:
    from prometheus_client import Gauge

    gauge = Gauge(f"kmsledger_{name}", about, labels, registry=registry)
    for values, number in samples:
        if number is not None:
            (gauge.labels(*values) if labels else gauge).set(float(number))


def _attempt(
    registry: CollectorRegistry, exit_code: int, stages: Mapping[str, float], operations: Mapping[str, OperationCounter]
) -> None:
    now = dt.datetime.now(dt.UTC).timestamp()
    _gauge(
        registry, "last_attempt_timestamp_seconds", "End of the last nightly run, successful or not", (), [((), now)]
    )
    _gauge(registry, "last_attempt_exit_code", "Exit code of the last nightly run", (), [((), exit_code)])
    seconds_by_stage = [((name,), seconds) for name, seconds in stages.items()]
    text = "Duration of each stage of the last nightly run"
    _gauge(registry, "stage_duration_seconds", text, ("stage",), seconds_by_stage)
    names = ("service", "operation")
    for name, about in (
        ("calls", "Calls to AWS in the last nightly run by operation, retries included"),
        ("throttles", "Calls that AWS throttled in the last nightly run by operation"),
        ("seconds", "Seconds of these calls, added up"),
    ):
        counts = [(call.split(":", 1), getattr(counter, name)) for call, counter in sorted(operations.items())]
        _gauge(registry, f"operation_{name}", about, names, counts)


def _last_good_run(registry: CollectorRegistry, mart: duckdb.DuckDBPyConnection) -> None:
    """The last run that ended and that the mart shows."""
    run = next(iter(rows(mart, _LAST_RUN)), None)
    if run is None:
        return
    last = {"run": run["run_id"]}
    about = "End of the last run that ended and that the mart shows"
    _gauge(registry, "last_good_run_timestamp_seconds", about, (), [((), run["finished"])])
    _gauge(registry, "last_good_run_id", "Number of that run", (), [((), run["run_id"])])
    _gauge(
        registry, "last_good_run_crawl_seconds", "Duration of its crawl", (), [((), run["finished"] - run["started"])]
    )
    coverage = next(iter(rows(mart, _COVERAGE, last)), {})
    outcomes = [((name,), coverage.get(name)) for name in ("complete", "partial", "failed")]
    _gauge(registry, "account_regions", "Account-regions in scope by outcome", ("outcome",), outcomes)
    total = sum(number or 0 for _, number in outcomes)
    share = (coverage.get("complete") or 0) / total if total else None
    _gauge(
        registry, "coverage_ratio", "Share of the account-regions that was read completely, 0 to 1", (), [((), share)]
    )
    if rows(mart, _EVALUATED)[0]["n"]:
        found = {row["severity"]: row["n"] for row in rows(mart, _FINDINGS)}
        findings = [((severity,), found.get(severity, 0)) for severity in SEVERITIES]
        _gauge(registry, "open_findings", "Failures that are not waived, by severity", ("severity",), findings)
    for label, prefix in (("account_id", "account"), ("region", "region")):
        scopes = rows(mart, _SCOPES.format(label=label), last)
        for name, text in _OF_SCOPES:
            samples = [((row[label],), row[name]) for row in scopes]
            _gauge(registry, f"{prefix}_{name}", f"{text}, by {prefix}", (label,), samples)
    gaps = [((row["service"], row["operation"]), row["n"]) for row in rows(mart, _GAPS, last)]
    text = "Calls that AWS did not answer as of the last good run, by operation"
    _gauge(registry, "operation_gaps", text, ("service", "operation"), gaps)
