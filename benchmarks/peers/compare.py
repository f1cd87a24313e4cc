"""Compares a check of another tool with the equivalent rules of kmsledger, resource by resource."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

HERE = Path(__file__).parent
Status = Literal["pass", "fail", "unknown", "not_applicable"]
Outcome = Literal[
    "both pass", "both fail", "neither applies", "we fail", "they fail", "we skip", "we unknown", "they unknown",
    "only we", "only they",
]  # fmt: skip
"""`we fail`: and they pass; `they fail`: and we pass; `we skip`: our rule does not apply, they pass or fail;
`only we`, `only they`: the other side does not list the resource for this check."""
OUTCOMES: tuple[Outcome, ...] = (
    "both pass", "both fail", "neither applies", "we fail", "they fail", "we skip", "we unknown", "they unknown",
    "only we", "only they",
)  # fmt: skip
AGREED = {"both pass", "both fail", "neither applies"}
WORST: tuple[Status, ...] = ("fail", "unknown", "pass", "not_applicable")
"""If several rules correspond to a check, the first of these that any of them returns counts."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check of another tool for one resource (its ARN)."""

    check: str
    resource: str
    status: Status


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a rule of kmsledger for one resource; `status` ignores waivers."""

    rule: str
    resource: str
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check of another tool with the equivalent rules of kmsledger; `note` describes differences in scope."""

    tool: str
    name: str
    rules: tuple[str, ...]
    resources: str
    """A pattern for the ARNs that both cover."""
    note: str


@dataclass(frozen=True, slots=True)
class Kind:
    """An explained kind of difference: which side is right, and why."""

    id: str
    checks: tuple[str, ...]
    outcomes: tuple[str, ...]
    reason_pattern: str
    resource: str
    right: str
    why: str

    def matches(self, difference: Difference) -> bool:
        """Whether a difference is of this kind."""
        name = f"{difference.check.tool}/{difference.check.name}"
        return (
            (not self.checks or name in self.checks)
            and difference.outcome in self.outcomes
            and re.search(self.reason_pattern, difference.reason) is not None
            and re.search(self.resource, difference.resource) is not None
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A resource with different results; None if one side does not list it."""

    check: Check
    resource: str
    outcome: Outcome
    theirs: Status | None
    ours: Status | None
    reason: str


@cache
def checks() -> tuple[Check, ...]:
    """All checks of all tools (mapping.yaml)."""
    table: Mapping[str, Mapping[str, Any]] = yaml.safe_load((HERE / "mapping.yaml").read_text(encoding="utf-8"))
    return tuple(
        Check(tool, name, tuple(entry["rules"]), entry.get("resources", ""), entry.get("note", ""))
        for tool, entries in table.items()
        for name, entry in entries.items()
    )


@cache
def kinds() -> tuple[Kind, ...]:
    """The explained kinds of differences (differences.yaml); the first match counts."""
    entries: list[dict[str, Any]] = yaml.safe_load((HERE / "differences.yaml").read_text(encoding="utf-8"))
    return tuple(
        Kind(
            entry["id"],
            tuple(entry.get("checks", ())),
            tuple(entry["outcomes"]),
            entry.get("reason_pattern", ""),
            entry.get("resource", ""),
            entry["right"],
            entry["why"],
        )
        for entry in entries
    )


def compare(
    check: Check, results: Iterable[CheckResult], findings: Iterable[Finding]
) -> tuple[Counter[Outcome], list[Difference]]:
    """Count the outcomes of all resources that either side lists, and return the differences.

    `results` may contain other checks, `findings` other rules; both must cover the same accounts. If a tool has several
    results for one resource, the worst one counts.
    """
    theirs: dict[str, Status] = {}
    for word in results:
        if word.check == check.name:
            theirs[word.resource] = _worse(word.status, theirs.get(word.resource))
    ours: dict[str, tuple[Status, str]] = {}
    for finding in findings:
        if finding.rule in check.rules and re.search(check.resources, finding.resource):
            resource = finding.resource.partition("#inline/")[0]  # other tools name the principal of an inline policy
            current = ours.get(resource)
            if current is None or _worse(finding.status, current[0]) != current[0]:
                ours[resource] = (finding.status, finding.reason)
    counts: Counter[Outcome] = Counter()
    differences = []
    for resource in sorted(theirs.keys() | ours.keys()):
        they = theirs.get(resource)
        we, reason = ours.get(resource, (None, ""))
        outcome = outcome_of(they, we)
        counts[outcome] += 1
        if outcome not in AGREED:
            differences.append(Difference(check, resource, outcome, they, we, reason))
    return counts, differences


def outcome_of(theirs: Status | None, ours: Status | None) -> Outcome:
    """The outcome of two results for one resource; None: the resource is not listed."""
    if ours is None:
        return "only they" if theirs in {"pass", "fail", "unknown"} else "neither applies"
    if ours == "not_applicable":
        return "we skip" if theirs in {"pass", "fail"} else "neither applies"
    if theirs is None or theirs == "not_applicable":
        return "only we"
    if ours == "unknown":
        return "neither applies" if theirs == "unknown" else "we unknown"
    if theirs == "unknown":
        return "they unknown"
    if theirs == ours:
        return "both pass" if ours == "pass" else "both fail"
    return "we fail" if ours == "fail" else "they fail"


def kind_of(difference: Difference) -> Kind | None:
    """The kind that explains a difference; None if none does."""
    return next((kind for kind in kinds() if kind.matches(difference)), None)


def table(results: Sequence[tuple[Check, Counter[Outcome]]]) -> str:
    """A Markdown table with one row per check; unused outcomes are left out."""
    occurring = [outcome for outcome in OUTCOMES if any(counts[outcome] for _, counts in results)]
    lines = [
        f"| check | our rule | {' | '.join(occurring)} |",
        f"|---|---|{'---:|' * len(occurring)}",
    ]
    for check, counts in results:
        cells = " | ".join(str(counts[outcome] or "") for outcome in occurring)
        lines.append(f"| {check.tool} `{check.name}` | {', '.join(check.rules) or 'none'} | {cells} |")
    return "\n".join(lines)


def listing(differences: Iterable[Difference]) -> str:
    """One line per difference, grouped by kind; unexplained differences come last."""
    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        kind = kind_of(difference)
        groups.setdefault(kind.id if kind else "", []).append(difference)
    lines: list[str] = []
    for kind in (each for each in kinds() if each.id in groups):
        lines += ["", f"{kind.id}: {len(groups[kind.id])}. Right: {kind.right}. {kind.why.strip()}"]
        lines += [_line(each) for each in groups[kind.id]]
    if unexplained := groups.get(""):
        lines += ["", f"NOT EXPLAINED: {len(unexplained)}", *map(_line, unexplained)]
    return "\n".join(lines)


def _line(difference: Difference) -> str:
    check = difference.check
    summary = f"they {difference.theirs or 'do not list it'}, we {difference.ours or 'do not list it'}"
    return f"   {check.tool} {check.name}  {difference.resource}  {summary}  {difference.reason}".rstrip()


def _worse(status: Status, other: Status | None) -> Status:
    return status if other is None or WORST.index(status) < WORST.index(other) else other
