"""The results that other tools leave behind, read as words on resources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.compare import Status, Word

PROWLER_STATUS: dict[str, Status] = {"PASS": "pass", "FAIL": "fail", "MANUAL": "unknown"}
SCOPE = "-scope"


def prowler(directory: Path) -> Iterator[Word]:
    """Findings of JSON-OCSF files: one of them is one check on one resource."""
    for file in sorted(directory.glob("*.ocsf.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")):
            for resource in entry["resources"]:
                yield Word(entry["metadata"]["event_code"], resource["uid"], PROWLER_STATUS[entry["status_code"]])


def custodian(directory: Path) -> Iterator[Word]:
    """Files `REGION/POLICY/resources.json` of the pairs in custodian.yaml; a policy that broke off has no such file."""
    for scope in sorted(directory.glob(f"*/*{SCOPE}/resources.json")):
        check = scope.parent.name.removesuffix(SCOPE)
        breaches = scope.parent.with_name(check) / "resources.json"
        if breaches.exists():
            broken = {_arn(entry) for entry in json.loads(breaches.read_text(encoding="utf-8"))}
            for entry in json.loads(scope.read_text(encoding="utf-8")):
                arn = _arn(entry)
                yield Word(check, arn, "fail" if arn in broken else "pass")


def scoutsuite(directory: Path) -> Iterator[Word]:
    """The one JavaScript file: a finding tells the path of what it looks at, and flags some of it; the rest passes."""
    for file in sorted(directory.glob("scoutsuite-results/scoutsuite_results_*.js")):
        services = json.loads(file.read_text(encoding="utf-8").partition("\n")[2])["services"]
        for service in services.values():
            for check, finding in service.get("findings", {}).items():
                path = finding["path"].split(".")
                flagged = {".".join(item.split(".")[: len(path)]) for item in finding.get("items", ())}
                for place, entry in _walk(services, path):
                    # An entry with a link stands for one of another region: it is judged there, if that was read.
                    arn = None if "scout_link" in entry else entry.get("arn")
                    if arn:
                        # the ARN of a bucket is given as that of its objects
                        yield Word(check, arn.removesuffix("/*"), "fail" if place in flagged else "pass")


def _walk(node: Any, path: list[str], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All entries at a path in which `id` stands for any name."""
    if not path:
        if isinstance(node, dict):
            yield place, node
        return
    names = list(node) if path[0] == "id" else [path[0]]
    for name in names:
        if isinstance(node, dict) and name in node:
            yield from _walk(node[name], path[1:], f"{place}.{name}" if place else name)


def _arn(entry: dict[str, Any]) -> str:
    """The ARN of a resource, which each AWS service calls differently; buckets have none."""
    for name in ("KeyArn", "Arn", "DBInstanceArn", "DBClusterArn", "DBSnapshotArn", "TrailARN", "ARN"):
        if name in entry:
            return str(entry[name])
    return f"arn:aws:s3:::{entry['Name']}"
