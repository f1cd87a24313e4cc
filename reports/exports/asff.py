"""Findings in the AWS Security Finding Format (2018-10-08): JSON Lines, each line the input of one BatchImportFindings.

A line holds at most 100 findings, all of one account in one region, because whoever imports them has to be that account there.
The format's limits of length are kept by cutting texts, which then end with an ellipsis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import orjson

from models.aws_types import asff_type
from models.errors import UserError
from reports.exports.common import (
    PRODUCT,
    Night,
    cut,
    iso,
    moments,
    partition_of,
    partition_of_region,
    region_of,
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
"""The format's words for partitions, which are not always those of ARNs; it has none for others."""
_CLOSED = frozenset({"pass", "not_applicable"})


@dataclass(frozen=True, slots=True)
class Hub:
    """One account's Security Hub in one region, in whose name all findings are filed."""

    account_id: str
    region: str


def write(out: TextIO, night: Night, findings: Iterable[FindingRecord], hub: Hub | None = None) -> int:
    """Write a batch a line, of findings that come place by place; returns how many findings.

    Raises UserError for a finding that belongs to no account, where the run knows no management account either.
    """
    count, place = 0, None
    batch: list[dict[str, Any]] = []
    for finding in findings:
        one = asff(finding, night, hub)
        here = one["ProductArn"]
        if batch and (here != place or len(batch) == BATCH):
            _line(out, batch)
            batch = []
        place = here
        batch.append(one)
        count += 1
    if batch:
        _line(out, batch)
    return count


def asff(finding: FindingRecord, night: Night, hub: Hub | None = None) -> dict[str, Any]:
    """One finding. A verdict that is not known is WARNING, which Security Hub explains as missing information."""
    account = hub.account_id if hub else finding.account_id or night.management_account
    if not account:
        raise UserError(
            f"the finding {finding.rule_id} of {finding.resource_arn!r} belongs to no account, and Security Hub needs one: "
            "name where to file findings with --security-hub ACCOUNT/REGION"
        )
    region = hub.region if hub else region_of(finding, night)
    partition = partition_of_region(hub.region, night) if hub else partition_of(finding, night)
    first, last = moments(finding, night)
    severity = {"Label": _label(finding), "Original": cut(finding.severity, 64)}
    types = [f"{_CHECKS}/AWS Security Best Practices"]
    if finding.frameworks:
        types.append(f"{_CHECKS}/Industry and Regulatory Standards")
    one: dict[str, Any] = {
        "SchemaVersion": "2018-10-08",
        "Id": f"{PRODUCT}/{uid_of(finding)}",
        "ProductArn": f"arn:{partition}:securityhub:{region}:{account}:product/{account}/default",
        "GeneratorId": cut(f"{PRODUCT}/{finding.rule_id}", 512),
        "AwsAccountId": account,
        "Region": region,
        "Types": types,
        "CreatedAt": iso(first),
        "UpdatedAt": iso(max(first, night.started_at)),
        "FirstObservedAt": iso(first),
        "LastObservedAt": iso(last),
        "Severity": severity,
        "FindingProviderFields": {"Severity": severity, "Types": types},
        "Title": cut(finding.title, 256),
        "Description": cut(finding.reason, 1024),
        "ProductFields": _fields(finding, night),
        "Resources": [_resource(finding, night)],
        "Compliance": _compliance(finding),
        "Workflow": {"Status": _workflow(finding)},
        "RecordState": "ARCHIVED" if finding.status in _CLOSED and finding.resolved_at else "ACTIVE",
    }
    if finding.fix and finding.fix.strip():
        one["Remediation"] = {"Recommendation": {"Text": cut(finding.fix.strip(), 512)}}
    return one


def _label(finding: FindingRecord) -> str:
    return "INFORMATIONAL" if finding.status in _CLOSED else _LABELS.get(finding.severity, "MEDIUM")


def _workflow(finding: FindingRecord) -> str:
    if finding.status == "waived":
        return "SUPPRESSED"
    return "RESOLVED" if finding.status in _CLOSED else "NEW"


def _compliance(finding: FindingRecord) -> dict[str, Any]:
    compliance: dict[str, Any] = {
        "Status": _COMPLIANCE.get(finding.unwaived_status, "WARNING"),
        "SecurityControlId": cut(finding.rule_id, 64),
        "StatusReasons": [
            {"ReasonCode": finding.unwaived_status.upper() or "UNKNOWN", "Description": cut(finding.reason, 1024)}
        ],
    }
    if finding.frameworks:
        compliance["RelatedRequirements"] = [cut(one, 64) for one in finding.frameworks[:32]]
    return compliance


def _resource(finding: FindingRecord, night: Night) -> dict[str, Any]:
    is_account = finding.resource_type == "account" and finding.resource_arn == finding.account_id
    resource = {
        "Type": asff_type(finding.resource_type or ""),
        "Id": cut(f"AWS::::Account:{finding.account_id}" if is_account else finding.resource_arn, 512),
        "Region": cut(region_of(finding, night), 16),
    }
    partition = partition_of(finding, night)
    if partition in _PARTITIONS:
        resource["Partition"] = _PARTITIONS[partition]
    return resource


def _fields(finding: FindingRecord, night: Night) -> dict[str, str]:
    said = {
        "Run": str(night.run_id),
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
    return {f"{PRODUCT}/{name}": cut(value, 2048) for name, value in said.items() if value and value.strip()}


def _line(out: TextIO, batch: list[dict[str, Any]]) -> None:
    out.write(orjson.dumps({"Findings": batch}, option=orjson.OPT_APPEND_NEWLINE).decode())
