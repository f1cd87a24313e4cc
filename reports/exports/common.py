"""Shared by all export formats: the run, its rules, stable finding IDs, partitions, regions and times."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import orjson

from models.safe_text import escaped_json
from reports.rules.findings import FindingRecord

PRODUCT = "kmsledger"
_PARTITIONS = {
    "cn": "aws-cn",
    "us-gov": "aws-us-gov",
    "us-iso": "aws-iso",
    "us-isob": "aws-iso-b",
    "eusc-de": "aws-eusc",
}
"""Partitions by region prefix; other regions belong to the partition of the run, by default aws."""
_HOMES = {
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-eusc": "eusc-de-east-1",
}
CLOSED = frozenset({"pass", "not_applicable"})
"""The statuses of a finding that needs no work."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class RuleText:
    """The texts of an enabled rule: its requirement, and how to fix a failure."""

    rule_id: str
    title: str
    severity: str
    family: str | None = None
    why: str | None = None
    fix: str | None = None
    console: str | None = None
    cli: str | None = None
    terraform: str | None = None
    frameworks: Sequence[str] = ()
    references: Sequence[str] = ()
    """Public URLs of the frameworks it covers."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run whose findings are exported. Times are UTC without a time zone, as DuckDB returns them."""

    run_id: int
    started_at: dt.datetime
    finished_at: dt.datetime | None = None
    status: str = "complete"
    version: str = ""
    partition: str | None = None
    organization: str | None = None
    management_account: str | None = None
    gaps: int | None = None
    rules: dict[str, RuleText] = field(default_factory=dict)


def load_run(connection: duckdb.DuckDBPyConnection) -> RunInfo | None:
    """The latest run of a mart with its enabled rules; None for a mart without runs."""
    row = connection.execute(
        "SELECT run_id, started_at, finished_at, status, version, partition, organization_id, management_account_id, gaps "
        "FROM runs ORDER BY run_id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    rules = connection.execute(
        "WITH address AS (SELECT r.rule_id, list(DISTINCT f.source ORDER BY f.source) AS found "
        "FROM (SELECT framework, unnest(rules) AS rule_id FROM framework_controls) r "
        "JOIN frameworks f ON f.framework = r.framework WHERE f.source IS NOT NULL GROUP BY r.rule_id) "
        "SELECT u.rule_id, u.title, u.severity, u.family, u.why, u.fix, u.console, u.cli, u.terraform, "
        "coalesce(u.frameworks, []), coalesce(a.found, []) FROM rules u LEFT JOIN address a ON a.rule_id = u.rule_id "
        "ORDER BY u.rule_id"
    ).fetchall()
    return RunInfo(*(*row, {rule[0]: RuleText(*rule) for rule in rules}))


def uid_of(finding: FindingRecord) -> str:
    """The ID of a finding, 32 hexadecimal digits: the same in every run and for every status."""
    return hashlib.sha256(f"{finding.rule_id}\0{finding.resource_arn}".encode()).hexdigest()[:32]


def json_line(record: Any) -> str:
    """A line of JSON Lines."""
    return escaped_json(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE).decode())


def milliseconds(moment: dt.datetime) -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return (moment.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)


def iso(moment: dt.datetime) -> str:
    """The time as ISO 8601 in UTC with milliseconds: 2026-11-22T03:00:00.000Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def truncated(text: str, limit: int) -> str:
    """The text, truncated to `limit` characters with an ellipsis; a dash if it is blank."""
    text = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return text if text.strip() else "-"


def partition_of(finding: FindingRecord, run: RunInfo) -> str:
    """The AWS partition of a finding: from the ARN, else from the region, else of the run."""
    parts = finding.resource_arn.split(":", 2)
    if parts[0] == "arn" and len(parts) == 3 and parts[1] in {"aws", *_PARTITIONS.values()}:
        return parts[1]
    return partition_of_region(finding.region or "", run)


def partition_of_region(region: str, run: RunInfo) -> str:
    """The AWS partition of a region, by default that of the run."""
    return _PARTITIONS.get("-".join(region.split("-")[:-2])) or run.partition or "aws"


def region_of(finding: FindingRecord, run: RunInfo) -> str:
    """The region to file a finding in: its own, or that of the partition's global services."""
    if finding.region and finding.region not in {"global", "*"}:
        return finding.region
    return _HOMES.get(partition_of(finding, run), "us-east-1")


def seen_between(finding: FindingRecord, run: RunInfo) -> tuple[dt.datetime, dt.datetime]:
    """When the failure (or, if it never failed, the current status) was first and last seen, at the latest in this run."""
    first = finding.first_failed or finding.since or run.started_at
    last = finding.last_seen if finding.resolved_at and finding.last_seen else run.started_at
    return first, max(first, last)


def remediation_text(rule: RuleText | FindingRecord) -> str:
    """The remediation of a rule as plain text in paragraphs; empty if the rule has none."""
    parts = (("", rule.fix), ("Console: ", rule.console), ("CLI: ", rule.cli), ("Terraform: ", rule.terraform))
    return "\n\n".join(f"{label}{text.strip()}" for label, text in parts if text and text.strip())
