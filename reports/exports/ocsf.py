"""Findings as events of OCSF 1.8.0, class Compliance Finding (2003) with the cloud profile: JSON Lines, one event per line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from reports.exports.common import (
    CLOSED,
    PRODUCT,
    RunInfo,
    json_line,
    milliseconds,
    partition_of,
    remediation_text,
    seen_between,
    uid_of,
)
from reports.rules.findings import FindingRecord

VERSION = "1.8.0"
_CLASS = 2003
_SEVERITIES = {
    "info": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
_ACTIVITIES = {1: "Create", 2: "Update", 3: "Close"}
_RESULTS = {"pass": (1, "Pass"), "fail": (3, "Fail"), "not_applicable": (99, "Not Applicable")}
_UNKNOWN = (0, "Unknown")


def write(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> None:
    """Write one event per line."""
    out.writelines(json_line(event(finding, run)) for finding in findings)


def event(finding: FindingRecord, run: RunInfo) -> dict[str, Any]:
    """A finding as an event. Unknown values are omitted; an unknown result is Unknown, never Pass or Fail."""
    first, last = seen_between(finding, run)
    activity, uid = _activity(finding, run), uid_of(finding)
    severity_id, severity = _SEVERITIES.get(finding.severity, (99, finding.severity))
    status_id, status = _status(finding)
    resolved = {"end_time": milliseconds(finding.resolved_at)} if finding.resolved_at else {}
    record: dict[str, Any] = _without_none(
        {
            "category_uid": 2,
            "category_name": "Findings",
            "class_uid": _CLASS,
            "class_name": "Compliance Finding",
            "activity_id": activity,
            "activity_name": _ACTIVITIES[activity],
            "type_uid": _CLASS * 100 + activity,
            "type_name": f"Compliance Finding: {_ACTIVITIES[activity]}",
            "time": milliseconds(run.started_at),
            "start_time": milliseconds(first),
            **resolved,
            "severity_id": severity_id,
            "severity": severity,
            "status_id": status_id,
            "status": status,
            "status_detail": finding.reason,
            "message": f"{finding.title}: {finding.reason}",
            "finding_info": {
                "uid": uid,
                "title": finding.title,
                "desc": finding.why,
                "types": [finding.family] if finding.family else None,
                "first_seen_time": milliseconds(first),
                "last_seen_time": milliseconds(last),
                "created_time": milliseconds(first),
                "modified_time": milliseconds(finding.since or run.started_at),
                "analytic": {"uid": finding.rule_id, "name": finding.title, "type_id": 1, "type": "Rule"},
            },
            "compliance": _compliance(finding),
            "resources": _resources(finding, run),
            "cloud": {
                "provider": "AWS",
                "region": finding.region,
                "cloud_partition": partition_of(finding, run),
                "account": {
                    "uid": finding.account_id,
                    "name": finding.account_name,
                    "type_id": 10,
                    "type": "AWS Account",
                }
                if finding.account_id
                else None,
                "org": {"uid": run.organization, "ou_name": finding.ou_path} if run.organization else None,
            },
            "remediation": _remediation(finding, run),
            "metadata": {
                "version": VERSION,
                "profiles": ["cloud"],
                "uid": f"{uid}-{run.run_id}",
                "correlation_uid": uid,
                "event_code": finding.rule_id,
                "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": run.version or None},
            },
            "unmapped": {
                "run_id": run.run_id,
                "rule_id": finding.rule_id,
                "unwaived_status": finding.unwaived_status,
                "status": finding.status,
                "key_arn": finding.key_arn,
                "reopened": finding.reopened,
                "age_days": finding.age_days,
                "waiver": finding.waiver,
                "waived_until": finding.waived_until.isoformat() if finding.waived_until else None,
            },
        }
    )
    return record


def _activity(finding: FindingRecord, run: RunInfo) -> int:
    """Close if it is not open, Create in the first run that found it, otherwise Update, including reopened findings."""
    if finding.status in CLOSED:
        return 3
    new = finding.since == run.started_at and not finding.reopened
    return 1 if new and finding.first_failed in {None, run.started_at} else 2


def _status(finding: FindingRecord) -> tuple[int, str]:
    if finding.status == "waived":
        return 3, "Suppressed"
    return (4, "Resolved") if finding.status in CLOSED else (1, "New")


def _compliance(finding: FindingRecord) -> dict[str, Any]:
    status_id, status = _RESULTS.get(finding.unwaived_status, _UNKNOWN)
    standards = [requirement.rpartition(" - ")[0] or requirement for requirement in finding.frameworks]
    return {
        "control": finding.rule_id,
        "desc": finding.title,
        "category": finding.family,
        "standards": list(dict.fromkeys(standards)),
        "requirements": list(finding.frameworks),
        "status_id": status_id,
        "status": status,
        "status_details": [finding.reason],
    }


def _resources(finding: FindingRecord, run: RunInfo) -> list[dict[str, Any]]:
    scope = {"region": finding.region, "cloud_partition": partition_of(finding, run), "provider": "AWS"}
    owner = {"name": finding.owner} if finding.owner else None
    named = {"uid": finding.resource_arn, "name": finding.resource_name, "type": finding.resource_type}
    resources = [{**named, **scope, "owner": owner, "role_id": 1, "role": "Target"}]
    if finding.key_arn and finding.key_arn != finding.resource_arn:
        parts = finding.key_arn.split(":")
        scope["region"] = parts[3] if len(parts) > 5 else None
        resources.append({"uid": finding.key_arn, "type": "AWS::KMS::Key", **scope, "role_id": 4, "role": "Related"})
    return resources


def _remediation(finding: FindingRecord, run: RunInfo) -> dict[str, Any] | None:
    text = remediation_text(finding)
    if not text:
        return None
    rule = run.rules.get(finding.rule_id)
    return {"desc": text, "references": list(rule.references) if rule and rule.references else None}


def _without_none(value: Any) -> Any:
    """The value without fields of objects that are None, recursively."""
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
