"""Findings as a SARIF 2.1.0 log: one run with all rules, then a result for each finding, written one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote

import orjson

from reports.exports.common import PRODUCT, Night, RuleText, iso, remedy, uid_of
from reports.rules.findings import FindingRecord

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""What GitHub reads as a severity: above 9 critical, from 7 high, from 4 medium, above 0 low."""
_KINDS = {"fail": "fail", "pass": "pass", "not_applicable": "notApplicable"}


def write(out: TextIO, night: Night, findings: Iterable[FindingRecord]) -> int:
    """Write the log; returns how many results it has."""
    rules = list(night.rules.values())
    places = {rule.rule_id: index for index, rule in enumerate(rules)}
    run = {
        "tool": {"driver": _driver(night, rules)},
        "automationDetails": {"id": f"{PRODUCT}/{quote(night.organization or '', safe='')}/{night.run_id}"},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(night)],
        "properties": {"run": night.run_id, **({"organization": night.organization} if night.organization else {})},
    }
    head = orjson.dumps(run).decode().removesuffix("}")
    out.write(f'{{"$schema":"{SCHEMA}","version":"2.1.0","runs":[{head},"results":[')
    count = 0
    for finding in findings:
        out.write(",\n" if count else "\n")
        out.write(orjson.dumps(result(finding, places.get(finding.rule_id))).decode())
        count += 1
    out.write("\n]}]}\n")
    return count


def result(finding: FindingRecord, index: int | None) -> dict[str, Any]:
    """One result. A verdict that is not known is of kind open; a waived finding keeps its kind and has a suppression."""
    kind = _KINDS.get(finding.unwaived_status, "open")
    uid = uid_of(finding)
    one: dict[str, Any] = {
        "ruleId": finding.rule_id,
        "kind": kind,
        "level": _LEVELS.get(finding.severity, "warning") if kind == "fail" else "none",
        "message": {"text": _plain(f"{finding.resource_name}: {finding.reason}")},
        "locations": [_location(finding)],
        "partialFingerprints": {"kmsledgerFinding/v1": uid, "primaryLocationLineHash": f"{uid}:1"},
        "properties": _properties(finding),
    }
    if index is not None:
        one["ruleIndex"] = index
    if finding.status == "waived":
        suppression = {"kind": "external", "status": "accepted", "justification": finding.reason}
        until = {"waivedUntil": finding.waived_until.isoformat()} if finding.waived_until else {}
        one["suppressions"] = [{**suppression, "properties": {"waiver": finding.waiver, **until}}]
    return one


def _driver(night: Night, rules: list[RuleText]) -> dict[str, Any]:
    version = {"version": night.version} if night.version else {}
    if re.fullmatch(r"\d+\.\d+\.\d+", night.version or ""):
        version["semanticVersion"] = night.version
    return {"name": PRODUCT, **version, "rules": [_rule(rule) for rule in rules]}


def _rule(rule: RuleText) -> dict[str, Any]:
    one: dict[str, Any] = {
        "id": rule.rule_id,
        "shortDescription": {"text": _plain(rule.title)},
        "fullDescription": {"text": _plain(rule.why or rule.title)},
        "defaultConfiguration": {"level": _LEVELS.get(rule.severity, "warning")},
        "properties": {
            "security-severity": _SCORES.get(rule.severity, "5.5"),
            "precision": "very-high",
            "tags": ["security", "aws", "kms", *([rule.family] if rule.family else [])],
            "frameworks": list(rule.frameworks),
        },
    }
    text = remedy(rule)
    if text:
        one["help"] = {"text": _plain(text), "markdown": _doubled(_markdown(rule))}
    return one


def _markdown(rule: RuleText) -> str:
    parts = [rule.why, rule.fix]
    parts += [f"**In the console.** {rule.console}"] if rule.console else []
    for label, text in (("AWS CLI", rule.cli), ("Terraform", rule.terraform)):
        if text:
            # A fence longer than any in the text, so that the text cannot end it.
            fence = "`" * max(3, *(len(found) + 1 for found in re.findall("`+", text)), 3)
            parts.append(f"**{label}**\n\n{fence}\n{text.strip()}\n{fence}")
    if rule.frameworks:
        parts.append("**Answers**\n\n" + "\n".join(f"- {one}" for one in rule.frameworks))
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _invocation(night: Night) -> dict[str, Any]:
    one: dict[str, Any] = {
        "executionSuccessful": night.status in {"complete", "partial"},
        "startTimeUtc": iso(night.started_at),
    }
    if night.finished_at:
        one["endTimeUtc"] = iso(night.finished_at)
    if night.gaps:
        text = f"{night.gaps} things could not be read: what depends on them is of kind open."
        one["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return one


def _location(finding: FindingRecord) -> dict[str, Any]:
    """The resource by its ARN, and as a path, which is all that some readers understand."""
    logical = {
        "name": finding.resource_name,
        "fullyQualifiedName": finding.resource_arn,
        "kind": finding.resource_type or "resource",
    }
    physical = {"artifactLocation": {"uri": _path(finding)}, "region": {"startLine": 1}}
    return {"physicalLocation": physical, "logicalLocations": [logical]}


def _path(finding: FindingRecord) -> str:
    parts = finding.resource_arn.split(":", 5)
    named = [parts[2], parts[5]] if parts[0] == "arn" and len(parts) == 6 else [finding.resource_arn]
    segments = ["aws", finding.account_id or "organization", finding.region or "global"]
    segments += [segment for name in named for segment in name.split("/")]
    return "/".join(_segment(segment) for segment in segments)


def _segment(text: str) -> str:
    return quote(text, safe="") if text.strip(".") else "%2E" * len(text) or "-"


def _plain(text: str) -> str:
    """A message without links: in SARIF brackets begin one, and braces a placeholder."""
    return _doubled(re.sub(r"([\\\[\]])", r"\\\1", text)) or "-"


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _properties(finding: FindingRecord) -> dict[str, Any]:
    names = ("status", "severity", "account_id", "account_name", "region", "key_arn", "owner", "age_days", "reopened")
    said = {name: getattr(finding, name) for name in names}
    said["first_failed"] = iso(finding.first_failed) if finding.first_failed else None
    said["resolved_at"] = iso(finding.resolved_at) if finding.resolved_at else None
    return {name: value for name, value in said.items() if value is not None}
