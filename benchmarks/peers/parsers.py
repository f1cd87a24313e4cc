"""Parses the output files of other tools into one result per check and resource."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.compare import CheckResult, Status

PROWLER_STATUS: dict[str, Status] = {"PASS": "pass", "FAIL": "fail", "MANUAL": "unknown"}
SCOPE = "-scope"


def prowler(directory: Path) -> Iterator[CheckResult]:
    """Parse JSON-OCSF files; each finding is one check on one resource."""
    for file in sorted(directory.glob("*.ocsf.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")):
            for resource in entry["resources"]:
                yield CheckResult(
                    entry["metadata"]["event_code"], resource["uid"], PROWLER_STATUS[entry["status_code"]]
                )


def custodian(directory: Path) -> Iterator[CheckResult]:
    """Parse `REGION/POLICY/resources.json` of the pairs in custodian.yaml; an aborted policy has no such file."""
    for scope in sorted(directory.glob(f"*/*{SCOPE}/resources.json")):
        check = scope.parent.name.removesuffix(SCOPE)
        failures = scope.parent.with_name(check) / "resources.json"
        if failures.exists():
            failed = {_arn(entry) for entry in json.loads(failures.read_text(encoding="utf-8"))}
            for entry in json.loads(scope.read_text(encoding="utf-8")):
                arn = _arn(entry)
                yield CheckResult(check, arn, "fail" if arn in failed else "pass")


def scoutsuite(directory: Path) -> Iterator[CheckResult]:
    """Parse the JavaScript file; a finding flags some of the entries at its path, and the rest passes."""
    for file in sorted(directory.glob("scoutsuite-results/scoutsuite_results_*.js")):
        services = json.loads(file.read_text(encoding="utf-8").partition("\n")[2])["services"]
        for service in services.values():
            for check, finding in service.get("findings", {}).items():
                path = finding["path"].split(".")
                flagged = {".".join(item.split(".")[: len(path)]) for item in finding.get("items", ())}
                for path_text, entry in _walk(services, path):
                    # An entry with a link refers to another region, where it is evaluated.
                    arn = None if "scout_link" in entry else entry.get("arn")
                    if arn:
                        # the ARN of a bucket is that of its objects
                        yield CheckResult(check, arn.removesuffix("/*"), "fail" if path_text in flagged else "pass")


def _walk(node: Any, path: list[str], path_text: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All entries at a path, in which `id` matches any name."""
    if not path:
        if isinstance(node, dict):
            yield path_text, node
        return
    names = list(node) if path[0] == "id" else [path[0]]
    for name in names:
        if isinstance(node, dict) and name in node:
            yield from _walk(node[name], path[1:], f"{path_text}.{name}" if path_text else name)


def _arn(entry: dict[str, Any]) -> str:
    """The ARN of a resource, under the member name of its service; for buckets, it is built from the name."""
    for name in ("KeyArn", "Arn", "DBInstanceArn", "DBClusterArn", "DBSnapshotArn", "TrailARN", "ARN"):
        if name in entry:
            return str(entry[name])
    return f"arn:aws:s3:::{entry['Name']}"
