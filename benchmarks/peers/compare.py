"""Two opinions on the same resource: a check of another tool, and the rules of ours that ask the same."""

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
    "both pass", "both fail", "neither judges", "we fail", "they fail", "we judge not", "we unknown", "they unknown",
    "only we", "only they",
]  # fmt: skip
"""`we fail`: and they pass; `they fail`: and we pass; `we judge not`: our rule does not apply, they pass or fail;
`only we`, `only they`: the other one does not list the resource for this question."""
OUTCOMES: tuple[Outcome, ...] = (
    "both pass", "both fail", "neither judges", "we fail", "they fail", "we judge not", "we unknown", "they unknown",
    "only we", "only they",
)  # fmt: skip
AGREED = {"both pass", "both fail", "neither judges"}
WORST: tuple[Status, ...] = ("fail", "unknown", "pass", "not_applicable")
"""Where several rules of ours ask what one check asks, the first of these that one of them says counts."""


@dataclass(frozen=True, slots=True)
class Word:
    """What another tool says of one resource (its ARN) in one of its checks."""

    check: str
    resource: str
    status: Status


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule of ours says of one resource; `status` without waivers."""

    rule: str
    resource: str
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check of another tool with the rules of ours that ask the same; `note` where it is not quite the same."""

    tool: str
    name: str
    rules: tuple[str, ...]
    resources: str
    """A pattern of the ARNs that both ask about."""
    note: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of difference, with who is right and why."""

    id: str
    checks: tuple[str, ...]
    outcomes: tuple[str, ...]
    says: str
    resource: str
    right: str
    why: str

    def covers(self, difference: Difference) -> bool:
        """Whether a difference is of this kind."""
        name = f"{difference.check.tool}/{difference.check.name}"
        return (
            (not self.checks or name in self.checks)
            and difference.outcome in self.outcomes
            and re.search(self.says, difference.reason) is not None
            and re.search(self.resource, difference.resource) is not None
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A resource on which the two do not say the same; None where one does not list it."""

    check: Check
    resource: str
    outcome: Outcome
    theirs: Status | None
    ours: Status | None
    reason: str


@cache
def checks() -> tuple[Check, ...]:
    """All checks of all tools, as mapping.yaml has them."""
    table: Mapping[str, Mapping[str, Any]] = yaml.safe_load((HERE / "mapping.yaml").read_text(encoding="utf-8"))
    return tuple(
        Check(tool, name, tuple(entry["rules"]), entry.get("resources", ""), entry.get("note", ""))
        for tool, entries in table.items()
        for name, entry in entries.items()
    )


@cache
def kinds() -> tuple[Kind, ...]:
    """The kinds of differences that are explained, as differences.yaml has them; the first that fits counts."""
    entries: list[dict[str, Any]] = yaml.safe_load((HERE / "differences.yaml").read_text(encoding="utf-8"))
    return tuple(
        Kind(
            entry["id"],
            tuple(entry.get("checks", ())),
            tuple(entry["outcomes"]),
            entry.get("says", ""),
            entry.get("resource", ""),
            entry["right"],
            entry["why"],
        )
        for entry in entries
    )


def compare(
    check: Check, words: Iterable[Word], findings: Iterable[Finding]
) -> tuple[Counter[Outcome], list[Difference]]:
    """How often the two agree and how they do not, and each difference; one row a resource that either lists.

    `words` may hold other checks, `findings` other rules; both must be of the same accounts. Where a tool says several
    things of one resource, the worst counts.
    """
    theirs: dict[str, Status] = {}
    for word in words:
        if word.check == check.name:
            theirs[word.resource] = _worse(word.status, theirs.get(word.resource))
    ours: dict[str, tuple[Status, str]] = {}
    for finding in findings:
        if finding.rule in check.rules and re.search(check.resources, finding.resource):
            resource = finding.resource.partition("#inline/")[0]  # others name the holder of an inline policy
            known = ours.get(resource)
            if known is None or _worse(finding.status, known[0]) != known[0]:
                ours[resource] = (finding.status, finding.reason)
    counts: Counter[Outcome] = Counter()
    differences = []
    for resource in sorted(theirs.keys() | ours.keys()):
        they = theirs.get(resource)
        we, reason = ours.get(resource, (None, ""))
        outcome = judge(they, we)
        counts[outcome] += 1
        if outcome not in AGREED:
            differences.append(Difference(check, resource, outcome, they, we, reason))
    return counts, differences


def judge(theirs: Status | None, ours: Status | None) -> Outcome:
    """What two words on one resource make together; None: it is not listed."""
    if ours is None:
        return "only they" if theirs in {"pass", "fail", "unknown"} else "neither judges"
    if ours == "not_applicable":
        return "we judge not" if theirs in {"pass", "fail"} else "neither judges"
    if theirs is None or theirs == "not_applicable":
        return "only we"
    if ours == "unknown":
        return "neither judges" if theirs == "unknown" else "we unknown"
    if theirs == "unknown":
        return "they unknown"
    if theirs == ours:
        return "both pass" if ours == "pass" else "both fail"
    return "we fail" if ours == "fail" else "they fail"


def kind_of(difference: Difference) -> Kind | None:
    """The kind that explains a difference; None if none does."""
    return next((kind for kind in kinds() if kind.covers(difference)), None)


def table(results: Sequence[tuple[Check, Counter[Outcome]]]) -> str:
    """One row a check, as a Markdown table; outcomes that nowhere happened are left out."""
    used = [outcome for outcome in OUTCOMES if any(counts[outcome] for _, counts in results)]
    lines = [
        f"| check | our rule | {' | '.join(used)} |",
        f"|---|---|{'---:|' * len(used)}",
    ]
    for check, counts in results:
        cells = " | ".join(str(counts[outcome] or "") for outcome in used)
        lines.append(f"| {check.tool} `{check.name}` | {', '.join(check.rules) or 'none'} | {cells} |")
    return "\n".join(lines)


def listing(differences: Iterable[Difference]) -> str:
    """Each difference in one line, by kind; those that nothing explains come last."""
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
    said = f"they {difference.theirs or 'do not list it'}, we {difference.ours or 'do not list it'}"
    return f"   {check.tool} {check.name}  {difference.resource}  {said}  {difference.reason}".rstrip()


def _worse(status: Status, other: Status | None) -> Status:
    return status if other is None or WORST.index(status) < WORST.index(other) else other
