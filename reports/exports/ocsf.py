"""Findings as events of OCSF 1.8.0, class Compliance Finding (2003) with the profile cloud: JSON Lines, an event a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

import orjson

from reports.exports.common import PRODUCT, Night, milliseconds, moments, partition_of, remedy, uid_of
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
_VERDICTS = {"pass": (1, "Pass"), "fail": (3, "Fail"), "not_applicable": (99, "Not Applicable")}
_NOT_KNOWN = (0, "Unknown")
_CLOSED = frozenset({"pass", "not_applicable"})


def write(out: TextIO, night: Night, findings: Iterable[FindingRecord]) -> int:
    """Write an event a line; returns how many."""
    count = 0
    for finding in findings:
        out.write(orjson.dumps(event(finding, night), option=orjson.OPT_APPEND_NEWLINE).decode())
        count += 1
    return count


def event(finding: FindingRecord, night: Night) -> dict[str, Any]:
    """One event. What is not known is left out; a verdict that is not known is Unknown, never Pass or Fail."""
    first, last = moments(finding, night)
    activity, uid = _activity(finding, night), uid_of(finding)
    severity_id, severity = _SEVERITIES.get(finding.severity, (99, finding.severity))
    status_id, status = _status(finding)
    resolved = {"end_time": milliseconds(finding.resolved_at)} if finding.resolved_at else {}
    return _object(
        {
            "category_uid": 2,
            "category_name": "Findings",
            "class_uid": _CLASS,
            "class_name": "Compliance Finding",
            "activity_id": activity,
            "activity_name": _ACTIVITIES[activity],
            "type_uid": _CLASS * 100 + activity,
            "type_name": f"Compliance Finding: {_ACTIVITIES[activity]}",
            "time": milliseconds(night.started_at),
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
                "modified_time": milliseconds(finding.since or night.started_at),
                "analytic": {"uid": finding.rule_id, "name": finding.title, "type_id": 1, "type": "Rule"},
            },
            "compliance": _compliance(finding),
            "resources": _resources(finding, night),
            "cloud": {
                "provider": "AWS",
                "region": finding.region,
                "cloud_partition": partition_of(finding, night),
                "account": {
                    "uid": finding.account_id,
                    "name": finding.account_name,
                    "type_id": 10,
                    "type": "AWS Account",
                }
                if finding.account_id
                else None,
                "org": {"uid": night.organization, "ou_name": finding.ou_path} if night.organization else None,
            },
            "remediation": _remediation(finding, night),
            "metadata": {
                "version": VERSION,
                "profiles": ["cloud"],
                "uid": f"{uid}-{night.run_id}",
                "correlation_uid": uid,
                "event_code": finding.rule_id,
                "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": night.version or None},
            },
            "unmapped": {
                "run_id": night.run_id,
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


def _activity(finding: FindingRecord, night: Night) -> int:
    """Close when nothing is open; Create in the run that found it; Update in later ones, and when it came back."""
    if finding.status in _CLOSED:
        return 3
    new = finding.since == night.started_at and not finding.reopened
    return 1 if new and finding.first_failed in {None, night.started_at} else 2


def _status(finding: FindingRecord) -> tuple[int, str]:
    if finding.status == "waived":
        return 3, "Suppressed"
    return (4, "Resolved") if finding.status in _CLOSED else (1, "New")


def _compliance(finding: FindingRecord) -> dict[str, Any]:
    status_id, status = _VERDICTS.get(finding.unwaived_status, _NOT_KNOWN)
    standards = [one.rpartition(" - ")[0] or one for one in finding.frameworks]
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


def _resources(finding: FindingRecord, night: Night) -> list[dict[str, Any]]:
    place = {"region": finding.region, "cloud_partition": partition_of(finding, night), "provider": "AWS"}
    owner = {"name": finding.owner} if finding.owner else None
    named = {"uid": finding.resource_arn, "name": finding.resource_name, "type": finding.resource_type}
    found = [{**named, **place, "owner": owner, "role_id": 1, "role": "Target"}]
    if finding.key_arn and finding.key_arn != finding.resource_arn:
        parts = finding.key_arn.split(":")
        place["region"] = parts[3] if len(parts) > 5 else None
        found.append({"uid": finding.key_arn, "type": "AWS::KMS::Key", **place, "role_id": 4, "role": "Related"})
    return found


def _remediation(finding: FindingRecord, night: Night) -> dict[str, Any] | None:
    text = remedy(finding)
    if not text:
        return None
    rule = night.rules.get(finding.rule_id)
    return {"desc": text, "references": list(rule.references) if rule and rule.references else None}


def _object(values: dict[str, Any]) -> dict[str, Any]:
    """The same without what is None, at every depth."""
    return {name: _known(one) for name, one in values.items() if one is not None}


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return _object(value)
    return [_known(one) for one in value] if isinstance(value, list) else value
