"""Findings in the AWS Security Finding Format (2018-10-08): JSON Lines, each line the input of one BatchImportFindings call.

A line has at most 100 findings, all of one account and region, because they must be imported with credentials of that account.
Texts that exceed the length limits of the format are truncated with an ellipsis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TextIO

from models.aws_types import asff_type
from models.errors import UserError
from reports.exports.common import (
    CLOSED,
    PRODUCT,
    RunInfo,
    iso,
    json_line,
    partition_of,
    partition_of_region,
    region_of,
    seen_between,
    truncated,
    uid_of,
)
from reports.rules.findings import FindingRecord

BATCH = 100
_LABELS = {"info": "INFORMATIONAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "critical": "CRITICAL"}
_COMPLIANCE = {"pass": "PASSED", "fail": "FAILED", "not_applicable": "NOT_AVAILABLE"}
_CHECKS = "Software and Configuration Checks"
_PARTITIONS = {
    "aws": "aws",
    "aws-cn": "aws-cn",
    "aws-us-gov": "aws-us-gov",
    "aws-iso": "aws-us-iso",
    "aws-iso-b": "aws-us-iso-b",
}
"""The partition names of the format, which differ from those in ARNs; other partitions are omitted."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The Security Hub (account and region) that receives all findings."""

    account_id: str
    region: str


def write(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord], hub: Hub | None = None) -> None:
    """Write one batch per line; findings must be sorted by account and region.

    Raises UserError for a finding without an account if the run has no management account.
    """
    records = (asff(finding, run, hub) for finding in findings)
    for _, group in groupby(records, key=lambda record: record["ProductArn"]):
        while batch := list(islice(group, BATCH)):
            out.write(json_line({"Findings": batch}))


def asff(finding: FindingRecord, run: RunInfo, hub: Hub | None = None) -> dict[str, Any]:
    """A finding in ASFF. An unknown result is WARNING, which Security Hub defines as missing information."""
    account = hub.account_id if hub else finding.account_id or run.management_account
    if not account:
        raise UserError(
            f"the finding {finding.rule_id} of {finding.resource_arn!r} belongs to no account, but Security Hub requires one: "
            "specify it with --security-hub ACCOUNT/REGION"
        )
    region = hub.region if hub else region_of(finding, run)
    partition = partition_of_region(hub.region, run) if hub else partition_of(finding, run)
    first, last = seen_between(finding, run)
    severity = {"Label": _label(finding), "Original": truncated(finding.severity, 64)}
    types = [f"{_CHECKS}/AWS Security Best Practices"]
    if finding.frameworks:
        types.append(f"{_CHECKS}/Industry and Regulatory Standards")
    record: dict[str, Any] = {
        "SchemaVersion": "2018-10-08",
        "Id": f"{PRODUCT}/{uid_of(finding)}",
        "ProductArn": f"arn:{partition}:securityhub:{region}:{account}:product/{account}/default",
        "GeneratorId": truncated(f"{PRODUCT}/{finding.rule_id}", 512),
        "AwsAccountId": account,
        "Region": region,
        "Types": types,
        "CreatedAt": iso(first),
        "UpdatedAt": iso(max(first, run.started_at)),
        "FirstObservedAt": iso(first),
        "LastObservedAt": iso(last),
        "Severity": severity,
        "FindingProviderFields": {"Severity": severity, "Types": types},
        "Title": truncated(finding.title, 256),
        "Description": truncated(finding.reason, 1024),
        "ProductFields": _fields(finding, run),
        "Resources": [_resource(finding, run)],
        "Compliance": _compliance(finding),
        "Workflow": {"Status": _workflow(finding)},
        "RecordState": "ARCHIVED" if finding.status in CLOSED and finding.resolved_at else "ACTIVE",
    }
    if finding.fix and finding.fix.strip():
        record["Remediation"] = {"Recommendation": {"Text": truncated(finding.fix.strip(), 512)}}
    return record


def _label(finding: FindingRecord) -> str:
    return "INFORMATIONAL" if finding.status in CLOSED else _LABELS.get(finding.severity, "MEDIUM")


def _workflow(finding: FindingRecord) -> str:
    if finding.status == "waived":
        return "SUPPRESSED"
    return "RESOLVED" if finding.status in CLOSED else "NEW"


def _compliance(finding: FindingRecord) -> dict[str, Any]:
    compliance: dict[str, Any] = {
        "Status": _COMPLIANCE.get(finding.unwaived_status, "WARNING"),
        "SecurityControlId": truncated(finding.rule_id, 64),
        "StatusReasons": [
            {"ReasonCode": finding.unwaived_status.upper() or "UNKNOWN", "Description": truncated(finding.reason, 1024)}
        ],
    }
    if finding.frameworks:
        compliance["RelatedRequirements"] = [truncated(requirement, 64) for requirement in finding.frameworks[:32]]
    return compliance


def _resource(finding: FindingRecord, run: RunInfo) -> dict[str, Any]:
    is_account = finding.resource_type == "account" and finding.resource_arn == finding.account_id
    resource = {
        "Type": asff_type(finding.resource_type or ""),
        "Id": truncated(f"AWS::::Account:{finding.account_id}" if is_account else finding.resource_arn, 512),
        "Region": truncated(region_of(finding, run), 16),
    }
    partition = partition_of(finding, run)
    if partition in _PARTITIONS:
        resource["Partition"] = _PARTITIONS[partition]
    return resource


def _fields(finding: FindingRecord, run: RunInfo) -> dict[str, str]:
    fields = {
        "Run": str(run.run_id),
        "Status": finding.status,
        "Family": finding.family,
        "ResourceType": finding.resource_type,
        "ResourceName": finding.resource_name,
        "ResourceAccount": finding.account_id,
        "ResourceAccountName": finding.account_name,
        "OrganizationalUnit": finding.ou_path,
        "Key": finding.key_arn,
        "Owner": finding.owner,
        "Waiver": finding.waiver,
        "WaivedUntil": finding.waived_until.isoformat() if finding.waived_until else None,
    }
    return {f"{PRODUCT}/{name}": truncated(value, 2048) for name, value in fields.items() if value and value.strip()}
