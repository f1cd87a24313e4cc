"""Findings as a SARIF 2.1.0 log: one run with all rules, and one result per finding, streamed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote

import orjson

from models.safe_text import escaped_json
from reports.exports.common import PRODUCT, RuleText, RunInfo, iso, remediation_text, uid_of
from reports.rules.findings import FindingRecord

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""The scores that GitHub maps to severities: above 9 critical, from 7 high, from 4 medium, above 0 low."""
_KINDS = {"fail": "fail", "pass": "pass", "not_applicable": "notApplicable"}


def write(out: TextIO, run: RunInfo, findings: Iterable[FindingRecord]) -> None:
    """Write the log."""
    rules = list(run.rules.values())
    indexes = {rule.rule_id: index for index, rule in enumerate(rules)}
    sarif_run = {
        "tool": {"driver": _driver(run, rules)},
        "automationDetails": {"id": f"{PRODUCT}/{quote(run.organization or '', safe='')}/{run.run_id}"},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(run)],
        "properties": {"run": run.run_id, **({"organization": run.organization} if run.organization else {})},
    }
    head = escaped_json(orjson.dumps(sarif_run).decode()).removesuffix("}")
    out.write(f'{{"$schema":"{SCHEMA}","version":"2.1.0","runs":[{head},"results":[')
    separator = "\n"
    for finding in findings:
        out.write(separator + escaped_json(orjson.dumps(result(finding, indexes.get(finding.rule_id))).decode()))
        separator = ",\n"
    out.write("\n]}]}\n")


def result(finding: FindingRecord, index: int | None) -> dict[str, Any]:
    """A finding as a result. An unknown result is of kind open; a waived finding keeps its kind and has a suppression."""
    kind = _KINDS.get(finding.unwaived_status, "open")
    uid = uid_of(finding)
    record: dict[str, Any] = {
        "ruleId": finding.rule_id,
        "kind": kind,
        "level": _LEVELS.get(finding.severity, "warning") if kind == "fail" else "none",
        "message": {"text": _escape_text(f"{finding.resource_name}: {finding.reason}")},
        "locations": [_location(finding)],
        "partialFingerprints": {"kmsledgerFinding/v1": uid, "primaryLocationLineHash": f"{uid}:1"},
        "properties": _properties(finding),
    }
    if index is not None:
        record["ruleIndex"] = index
    if finding.status == "waived":
        suppression = {"kind": "external", "status": "accepted", "justification": finding.reason}
        until = {"waivedUntil": finding.waived_until.isoformat()} if finding.waived_until else {}
        record["suppressions"] = [{**suppression, "properties": {"waiver": finding.waiver, **until}}]
    return record


def _driver(run: RunInfo, rules: list[RuleText]) -> dict[str, Any]:
    version = {"version": run.version} if run.version else {}
    if re.fullmatch(r"\d+\.\d+\.\d+", run.version or ""):
        version["semanticVersion"] = run.version
    return {"name": PRODUCT, **version, "rules": [_rule(rule) for rule in rules]}


def _rule(rule: RuleText) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": rule.rule_id,
        "shortDescription": {"text": _escape_text(rule.title)},
        "fullDescription": {"text": _escape_text(rule.why or rule.title)},
        "defaultConfiguration": {"level": _LEVELS.get(rule.severity, "warning")},
        "properties": {
            "security-severity": _SCORES.get(rule.severity, "5.5"),
            "precision": "very-high",
            "tags": ["security", "aws", "kms", *([rule.family] if rule.family else [])],
            "frameworks": list(rule.frameworks),
        },
    }
    text = remediation_text(rule)
    if text:
        record["help"] = {"text": _escape_text(text), "markdown": _escape_braces(_markdown(rule))}
    return record


def _markdown(rule: RuleText) -> str:
    parts = [rule.why, rule.fix]
    parts += [f"**In the console.** {rule.console}"] if rule.console else []
    for label, text in (("AWS CLI", rule.cli), ("Terraform", rule.terraform)):
        if text:
            # The fence is longer than any in the text, so that the text cannot end it.
            fence = "`" * max(3, *(len(backticks) + 1 for backticks in re.findall("`+", text)), 3)
            parts.append(f"**{label}**\n\n{fence}\n{text.strip()}\n{fence}")
    if rule.frameworks:
        parts.append("**Covers**\n\n" + "\n".join(f"- {requirement}" for requirement in rule.frameworks))
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _invocation(run: RunInfo) -> dict[str, Any]:
    record: dict[str, Any] = {
        "executionSuccessful": run.status in {"complete", "partial"},
        "startTimeUtc": iso(run.started_at),
    }
    if run.finished_at:
        record["endTimeUtc"] = iso(run.finished_at)
    if run.gaps:
        text = f"{run.gaps} calls failed or were denied: results that depend on them are of kind open."
        record["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return record


def _location(finding: FindingRecord) -> dict[str, Any]:
    """The resource by its ARN, and as a path, because some tools support only paths."""
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


def _escape_text(text: str) -> str:
    """A message with escaped brackets and braces, which begin links and placeholders in SARIF."""
    return _escape_braces(re.sub(r"([\\\[\]])", r"\\\1", text)) or "-"


def _escape_braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _properties(finding: FindingRecord) -> dict[str, Any]:
    names = ("status", "severity", "account_id", "account_name", "region", "key_arn", "owner", "age_days", "reopened")
    properties = {name: getattr(finding, name) for name in names}
    properties["first_failed"] = iso(finding.first_failed) if finding.first_failed else None
    properties["resolved_at"] = iso(finding.resolved_at) if finding.resolved_at else None
    return {name: value for name, value in properties.items() if value is not None}
