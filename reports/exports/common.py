"""What all forms of findings share: the run that they are of, the rules behind them, names that stay, places and times."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from reports.rules.findings import FindingRecord

PRODUCT = "kmsledger"
_PARTITIONS = {
    "cn": "aws-cn",
    "us-gov": "aws-us-gov",
    "us-iso": "aws-iso",
    "us-isob": "aws-iso-b",
    "eusc-de": "aws-eusc",
}
"""Partitions by what their regions begin with; all others are of partition aws, or of the run's."""
_HOMES = {
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-eusc": "eusc-de-east-1",
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule in force: what it demands, and what to do about a failure."""

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
    """Public addresses of the frameworks that it answers."""


@dataclass(frozen=True, slots=True)
class Night:
    """The run whose findings are exported. Times are UTC, without a zone as DuckDB gives them."""

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


def night_of(connection: duckdb.DuckDBPyConnection) -> Night | None:
    """The last run of a mart with the rules in force; None for a mart without runs."""
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
    return Night(*(*row, {rule[0]: RuleText(*rule) for rule in rules}))


def uid_of(finding: FindingRecord) -> str:
    """A name of 32 hexadecimal digits for what a rule says of a resource: the same every night, whatever the verdict."""
    return hashlib.sha256(f"{finding.rule_id}\0{finding.resource_arn}".encode()).hexdigest()[:32]


def milliseconds(moment: dt.datetime) -> int:
    """Since 1970-01-01 UTC."""
    return (moment.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)


def iso(moment: dt.datetime) -> str:
    """ISO 8601 with milliseconds, in UTC: 2026-11-22T03:00:00.000Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def cut(text: str, limit: int) -> str:
    """A text of at most so many characters; one that is longer ends with an ellipsis. It must say something: else a dash."""
    text = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return text if text.strip() else "-"


def partition_of(finding: FindingRecord, night: Night) -> str:
    """The AWS partition: of the ARN, else of the region, else of the run."""
    parts = finding.resource_arn.split(":", 2)
    if parts[0] == "arn" and len(parts) == 3 and parts[1] in {"aws", *_PARTITIONS.values()}:
        return parts[1]
    return partition_of_region(finding.region or "", night)


def partition_of_region(region: str, night: Night) -> str:
    """The AWS partition of a region; of none, the run's."""
    return _PARTITIONS.get("-".join(region.split("-")[:-2])) or night.partition or "aws"


def region_of(finding: FindingRecord, night: Night) -> str:
    """The region in which a finding can be filed: its own; that of the partition's global services for what has none."""
    if finding.region and finding.region not in {"global", "*"}:
        return finding.region
    return _HOMES.get(partition_of(finding, night), "us-east-1")


def moments(finding: FindingRecord, night: Night) -> tuple[dt.datetime, dt.datetime]:
    """When it was first and last seen: failing, else (it never failed) in its present status, at the latest in this run."""
    first = finding.first_failed or finding.since or night.started_at
    last = finding.last_seen if finding.resolved_at and finding.last_seen else night.started_at
    return first, max(first, last)


def remedy(rule: RuleText | FindingRecord) -> str:
    """All that a rule says to do, as plain text in paragraphs; empty when it says nothing."""
    parts = (("", rule.fix), ("Console: ", rule.console), ("CLI: ", rule.cli), ("Terraform: ", rule.terraform))
    return "\n\n".join(f"{label}{text.strip()}" for label, text in parts if text and text.strip())
