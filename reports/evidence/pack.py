"""Writes the evidence pack of a framework: what its rules require, what they found, and what could not be read.

Everything but the rules themselves comes from the history in the mart, so that the pack of a run can be written again later,
byte for byte. No clock is read, every list is sorted, and rows are streamed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final
from zipfile import ZipFile

import duckdb

from models.output_file import replacing
from reports.evidence.manifest import FORMAT, MANIFEST, digest, encode, entry
from reports.mart.connection import quoted
from reports.mart.errors import QueryError
from reports.mart.query import explained, run
from reports.mart.result_writers import write_csv
from reports.rules.findings import STATUSES
from reports.rules.framework_loader import Control, Framework, UnknownFrameworkError, load_frameworks
from reports.rules.loader import Rule
from reports.rules.runner import WAIVED_COLUMNS, results_query, waived_population

_PARAMETER: Final = re.compile(rb"\$([a-z][a-z0-9_]*)")
_RUN: Final = """
SELECT run_id, strftime(started_at, '%Y-%m-%dT%H:%M:%SZ') AS started_at,
  strftime(finished_at, '%Y-%m-%dT%H:%M:%SZ') AS finished_at,
  status, version, partition, organization_id, management_account_id,
  (SELECT count(*) FROM coverage WHERE outcome = 'gap') AS gaps,
  (SELECT count(*) FROM coverage WHERE outcome NOT IN ('complete', 'gap')) AS incomplete_scopes
FROM runs WHERE run_id = internal.view_run()
"""
_RECORDED: Final = """
SELECT rule_id, sum(failed), sum(unknown), sum(waived), sum(passed), sum(not_applicable) FROM rule_results GROUP BY rule_id
"""
_TABLES: Final = {
    "waivers.csv": """
SELECT rule_id, resource_arn, account_id, region, waiver, unwaived_status, reason
FROM internal.finding f
WHERE internal.known(valid_from, valid_to, internal.view_run()) AND status = 'waived' AND list_contains($rules, rule_id)
ORDER BY rule_id, resource_arn
""",
    "key_policies.csv": """
SELECT k.key_arn, k.account_id, k.region, p.policy_hash AS policy,
  CASE
    WHEN k.failure_causes['kms:GetKeyPolicy'] IS NOT NULL
      THEN CASE WHEN p.policy_hash IS NULL THEN 'unknown: ' ELSE 'of an earlier run: ' END || k.failure_causes['kms:GetKeyPolicy']
    WHEN p.policy_hash IS NULL AND k.manager = 'AWS' THEN 'not requested: AWS manages the key'
    WHEN p.policy_hash IS NULL THEN 'unknown: it was not read'
    WHEN k.last_seen_run IS DISTINCT FROM internal.view_run() THEN 'of an earlier run: its account and region were not read'
    ELSE 'current'
  END AS state
FROM keys k
LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, internal.view_run())
ORDER BY k.key_arn
""",
    "policies.csv": """
SELECT policy_hash AS policy, canonical, received
FROM internal.policy_document
WHERE policy_hash IN (
  SELECT policy_hash FROM internal.key_policy WHERE internal.known(valid_from, valid_to, internal.view_run()))
ORDER BY policy_hash
""",
    "coverage.csv": """
SELECT account_id, account_name, region, outcome, cause_text AS reason FROM coverage WHERE outcome <> 'gap'
ORDER BY ALL
""",
    "gaps.csv": """
SELECT account_id, account_name, region, service, operation, action, subject, cause, cause_text AS reason, code
FROM coverage WHERE outcome = 'gap'
ORDER BY ALL
""",
}


Counts = dict[str, int]
"""Resources by status."""
_NONE: Final[Counts] = dict.fromkeys(STATUSES, 0)


def find_framework(name: str) -> Framework:
    """The framework with this ID. Raises UnknownFrameworkError."""
    frameworks = {framework.framework_id: framework for framework in load_frameworks()}
    if name not in frameworks:
        raise UnknownFrameworkError(f"no framework is named {name!r}: choose from {', '.join(frameworks)}")
    return frameworks[name]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pack of one framework and run, about to be written."""

    framework: Framework
    run: dict[str, Any]
    rules: dict[str, Rule]
    """The rules in force that the framework maps to, by ID."""
    version: str
    """The version of this program."""

    @property
    def file_name(self) -> str:
        """The default name of the file."""
        return f"kmsledger-evidence-{self.framework.framework_id}-run{self.run['run_id']}.zip"


@dataclass(frozen=True, slots=True)
class Written:
    """What a pack contains."""

    digest: str
    """The SHA-256 of its manifest."""
    files: int
    """Without the manifest."""
    differences: list[str]
    """The rules whose results differ from those that the run recorded."""


def load_evidence(
    duck: duckdb.DuckDBPyConnection, framework: Framework, rules: Iterable[Rule], version: str
) -> Evidence:
    """The evidence as of the connection's run. Raises QueryError for a run that did not end."""
    with explained():
        columns, rows = run(duck, _RUN)
        facts = [dict(zip(columns, row, strict=True)) for row in rows]
    if not facts or facts[0]["status"] not in {"complete", "partial"}:
        raise QueryError("the run has not ended, and proves nothing: name one that ended with --as-of")
    mapped = {rule_id for control in framework.controls for rule_id in control.rules}
    return Evidence(framework, facts[0], {rule.rule_id: rule for rule in rules if rule.rule_id in mapped}, version)


def write(duck: duckdb.DuckDBPyConnection, evidence: Evidence, path: Path) -> Written:
    """Write the pack, atomically. Raises RuleError, OutputError, QueryError or OverLimitError."""
    with replacing(path) as unfinished, explained(), ZipFile(unfinished, "w") as zipped:
        pack = _Pack(zipped)
        counts, differing = _write_controls(pack, duck, evidence)
        recorded = {row[0]: Counts(zip(STATUSES, map(int, row[1:]), strict=True)) for row in run(duck, _RECORDED)[1]}
        differences = sorted(differing.union(name for name in counts if counts[name] != recorded.get(name, _NONE)))
        pack.table("controls.csv", _CONTROL_COLUMNS, _control_rows(evidence, counts, recorded))
        _write_rules(pack, duck, evidence)
        for name, query in _TABLES.items():
            pack.table(name, *run(duck, query, {"rules": sorted(counts)} if "$rules" in query else None))
        pack.text("README.md", _readme(evidence, counts, differences))
        manifest = encode(
            {
                "format": FORMAT,
                "program": f"kmsledger {evidence.version}",
                "framework": {**asdict(evidence.framework), "controls": len(evidence.framework.controls)},
                "run": evidence.run,
                "files": pack.files,
            }
        )
        count = len(pack.files)
        pack.text(MANIFEST, manifest.decode())
    return Written(digest(manifest), count, differences)


class _Pack:
    """The ZIP file, and what was written to it."""

    def __init__(self, zipped: ZipFile) -> None:
        self._zipped = zipped
        self.files: dict[str, dict[str, Any]] = {}

    def text(self, name: str, content: str) -> None:
        with self._opened(name) as out:
            out.write(content)

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with self._opened(name) as out:
            write_csv(out, columns, rows)

    @contextmanager
    def _opened(self, name: str) -> Iterator[io.TextIOWrapper]:
        # A streamed entry may exceed 2 GiB.
        with self._zipped.open(entry(name), "w", force_zip64=True) as zipped:
            hashed = _Hashed(zipped)
            with io.TextIOWrapper(io.BufferedWriter(hashed, 1 << 16), encoding="utf-8", newline="") as out:
                yield out
        self.files[name] = {"sha256": hashed.sha256.hexdigest(), "bytes": hashed.bytes}


class _Hashed(io.RawIOBase):
    """Passes bytes on, and hashes and counts them."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        size = self._out.write(content)
        self.sha256.update(content)
        self.bytes += size
        return size


def _write_controls(
    pack: _Pack, duck: duckdb.DuckDBPyConnection, evidence: Evidence
) -> tuple[dict[str, Counts], set[str]]:
    """Write the population of each control; returns the counts of all rules, and the rules with a result that differs."""
    counts: dict[str, Counts] = {}
    differing: set[str] = set()

    def rows(control: Control) -> Iterator[tuple[Any, ...]]:
        for rule in (evidence.rules[rule_id] for rule_id in control.rules if rule_id in evidence.rules):
            counted = counts[rule.rule_id] = _NONE.copy()
            for row in waived_population(duck, rule):
                counted[row[4]] += 1
                if differs(row[4], row[8]):
                    differing.add(rule.rule_id)
                yield rule.rule_id, *row

    for name, control in control_files(evidence.framework):
        pack.table(name, ("rule_id", *WAIVED_COLUMNS), rows(control))
    return counts, differing


def differs(status: str, recorded: str | None) -> bool:
    """Whether the run recorded another status; it recorded none (None) for a resource that never was a problem."""
    return recorded != status and (recorded is not None or status in STATUSES[:3])


def control_files(framework: Framework) -> Iterator[tuple[str, Control]]:
    """The file of each control; the number keeps names apart that differ only in other characters."""
    for number, control in enumerate(framework.controls, start=1):
        words = re.sub(r"[^A-Za-z0-9.]+", "-", control.control_id)[:80].strip("-.")
        yield f"controls/{number:02d}-{words}.csv", control


_CONTROL_COLUMNS: Final = (
    *("control", "title", "status", "file", "rule_id", "in_force", *STATUSES),
    *(f"recorded_{status}" for status in STATUSES),
)


def _control_rows(
    evidence: Evidence, counts: dict[str, Counts], recorded: dict[str, Counts]
) -> Iterator[tuple[Any, ...]]:
    """The rules of each control, with their counts now and as the run recorded them."""
    for name, control in control_files(evidence.framework):
        status = control_status([counts.get(rule_id) for rule_id in control.rules])
        for rule_id in control.rules:
            numbers = counts[rule_id].values() if rule_id in counts else (None for _ in STATUSES)
            before = recorded.get(rule_id, _NONE).values()
            yield control.control_id, control.title, status, name, rule_id, rule_id in counts, *numbers, *before


def control_status(counts: Sequence[Counts | None]) -> str:
    """The status of a control, as in the view ``framework_controls``, from its rules' counts; None is a rule not in force."""
    found = {status for counted in counts for status, number in (counted or {"unknown": 1}).items() if number}
    if "fail" in found or "unknown" in found:
        return "fail" if "fail" in found else "unknown"
    return "pass" if {"pass", "waived"} & found else "not_applicable"


def _write_rules(pack: _Pack, duck: duckdb.DuckDBPyConnection, evidence: Evidence) -> None:
    rows, run_id = [], evidence.run["run_id"]
    for rule_id, rule in sorted(evidence.rules.items()):
        query = bound(results_query(duck, rule), rule.parameters)
        command = f"kmsledger sql --as-of {run_id} --format csv --file {rule_id}.sql"
        pack.text(
            f"rules/{rule_id}.sql", f"-- All results of the rule in run {run_id}, before waivers: {command}\n{query}"
        )
        parameters, version = json.dumps(dict(rule.parameters), sort_keys=True), digest(query.encode())
        rows.append((rule_id, rule.title, rule.severity, rule.family, rule.why, rule.fix, parameters, version))
    pack.table("rules.csv", ("rule_id", "title", "severity", "family", "why", "fix", "parameters", "version"), rows)


def bound(query: str, parameters: Mapping[str, str]) -> str:
    """The query with its parameters as literals."""
    text, parts, end = query.encode(), [], 0
    for at, kind in duckdb.tokenize(query):
        if kind == duckdb.token_type.operator and (name := _PARAMETER.match(text, at)):
            parts += [text[end:at], quoted(parameters[name[1].decode()]).encode()]
            end = name.end()
    return b"".join((*parts, text[end:])).decode()


def _readme(evidence: Evidence, counts: dict[str, Counts], differences: Sequence[str]) -> str:
    framework, mapped = evidence.framework, {name for control in evidence.framework.controls for name in control.rules}
    text = files("reports.evidence").joinpath("readme.md").read_text(encoding="utf-8")
    return text.format(
        **evidence.run,
        framework=framework.name,
        source=framework.source,
        checked=framework.checked,
        program=evidence.version,
        unknown=sum(counted["unknown"] for counted in counts.values()),
        missing=", ".join(sorted(mapped - set(counts))) or "none",
        differences=", ".join(differences) or "none",
    )
