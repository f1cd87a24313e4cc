"""The metrics about the runs, whatever they are written to.

Account, region and operation are labels of separate metrics, never of one: hundreds of accounts in dozens of regions with dozens
of operations would be a million series, their sum is less than a thousand. What is unknown has no sample.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from models.call_counters import OperationCounter
from models.errors import UserError
from models.severities import SEVERITIES
from reports.mart.connection import connect
from reports.mart.rows import rows

_LAST_RUN: Final = """
SELECT run_id, epoch(started_at) AS started, epoch(finished_at) AS finished FROM runs
WHERE status IN ('complete', 'partial') ORDER BY run_id DESC LIMIT 1
"""
_COVERAGE: Final = "SELECT complete, partial, failed FROM run_coverage WHERE run_id = $run"
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
    """The metrics in the settings cannot be written or sent."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Metric:
    """A gauge: its name, description and labels, and a number for each combination of their values."""

    name: str
    about: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]


def collect(
    mart: Path, exit_code: int, stages: Mapping[str, float], operations: Mapping[str, OperationCounter]
) -> list[Metric]:
    """The metrics after a nightly run, successful or not; those without samples are left out.

    ``stages`` are the seconds of the stages, ``operations`` the calls of the crawl, both of this process.
    """
    metrics = list(_attempt(exit_code, stages, operations))
    if mart.exists():
        with connect(mart) as connection:
            metrics += _last_good_run(connection)
    return [metric for metric in metrics if metric.samples]


def _gauge(name: str, about: str, labels: tuple[str, ...], samples: Iterable[tuple[Sequence[str], Any]]) -> Metric:
    known = tuple((tuple(values), float(number)) for values, number in samples if number is not None)
    return Metric(f"kmsledger_{name}", about, labels, known)


def _attempt(
    exit_code: int, stages: Mapping[str, float], operations: Mapping[str, OperationCounter]
) -> Iterator[Metric]:
    now = dt.datetime.now(dt.UTC).timestamp()
    yield _gauge("last_attempt_timestamp_seconds", "End of the last nightly run, successful or not", (), [((), now)])
    yield _gauge("last_attempt_exit_code", "Exit code of the last nightly run", (), [((), exit_code)])
    seconds_by_stage = [((name,), seconds) for name, seconds in stages.items()]
    text = "Duration of each stage of the last nightly run"
    yield _gauge("stage_duration_seconds", text, ("stage",), seconds_by_stage)
    names = ("service", "operation")
    for name, about in (
        ("calls", "Calls to AWS in the last nightly run by operation, retries included"),
        ("throttles", "Calls that AWS throttled in the last nightly run by operation"),
        ("seconds", "Seconds of these calls, added up"),
    ):
        counts = [(call.split(":", 1), getattr(counter, name)) for call, counter in sorted(operations.items())]
        yield _gauge(f"operation_{name}", about, names, counts)


def _last_good_run(mart: duckdb.DuckDBPyConnection) -> Iterator[Metric]:
    """The last run that ended and that the mart shows."""
    run = next(iter(rows(mart, _LAST_RUN)), None)
    if run is None:
        return
    last = {"run": run["run_id"]}
    about = "End of the last run that ended and that the mart shows"
    yield _gauge("last_good_run_timestamp_seconds", about, (), [((), run["finished"])])
    yield _gauge("last_good_run_id", "Number of that run", (), [((), run["run_id"])])
    yield _gauge("last_good_run_crawl_seconds", "Duration of its crawl", (), [((), run["finished"] - run["started"])])
    coverage = next(iter(rows(mart, _COVERAGE, last)), {})
    outcomes = [((name,), coverage.get(name)) for name in ("complete", "partial", "failed")]
    yield _gauge("account_regions", "Account-regions in scope by outcome", ("outcome",), outcomes)
    total = sum(number or 0 for _, number in outcomes)
    share = (coverage.get("complete") or 0) / total if total else None
    yield _gauge("coverage_ratio", "Share of the account-regions that was read completely, 0 to 1", (), [((), share)])
    if rows(mart, _EVALUATED)[0]["n"]:
        found = {row["severity"]: row["n"] for row in rows(mart, _FINDINGS)}
        findings = [((severity,), found.get(severity, 0)) for severity in SEVERITIES]
        yield _gauge("open_findings", "Failures that are not waived, by severity", ("severity",), findings)
    for label, prefix in (("account_id", "account"), ("region", "region")):
        scopes = rows(mart, _SCOPES.format(label=label), last)
        for name, text in _OF_SCOPES:
            samples = [((row[label],), row[name]) for row in scopes]
            yield _gauge(f"{prefix}_{name}", f"{text}, by {prefix}", (label,), samples)
    gaps = [((row["service"], row["operation"]), row["n"]) for row in rows(mart, _GAPS, last)]
    text = "Calls that AWS did not answer as of the last good run, by operation"
    yield _gauge("operation_gaps", text, ("service", "operation"), gaps)
