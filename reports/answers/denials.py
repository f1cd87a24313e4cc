"""The crawler's denied calls: which role was denied what, why, and the statement that fixes it; one fix can cover many keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.remediation import Fix, fix
from models.safe_text import printable
from reports.access.engine.evaluator import allowed
from reports.access.engine.model import Effect
from reports.access.engine.principals import role_of
from reports.answers.change_event import format_account_region
from reports.answers.questions.denials import CALL_COLUMNS
from reports.answers.repository import Facts, opened
from reports.answers.text import UNREAD_DENIALS
from reports.mart.as_of import RunRef
from reports.mart.rows import rows

FORMAT = "kmsledger.denials/1"
_MAX_SUBJECTS = 10
_DENIED = """
SELECT *, list_sort(list(DISTINCT action) OVER (
    PARTITION BY fix_in, denied_role, account_id, cause, policy_arn, subject)) AS actions_on_subject
FROM (
  SELECT *, coalesce(nullif(CASE WHEN action = 'sts:AssumeRole' THEN subject ELSE role END, ''),
    'arn:' || $partition || ':iam::' || account_id || ':role/' || $role_name) AS denied_role
  FROM access_denials
)
ORDER BY account_id, region, subject, action
"""
_OTHER_GAPS = """
SELECT count(*) AS n FROM coverage c
WHERE c.outcome = 'gap' AND NOT EXISTS (FROM access_denials p WHERE p.cause = c.cause)
"""
_CALLER = "SELECT caller_arn, partition FROM internal.run WHERE run_id = $run"


@dataclass(slots=True)
class Denial:
    """Denied calls that one statement fixes."""

    cause: str
    cause_text: str
    fix_in: str
    role: str
    """The role's ARN; with ``*`` for the account if the same statement applies in several accounts."""
    actions: tuple[str, ...]
    fix: Fix
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of view access_denials."""

    @property
    def subjects(self) -> list[str]:
        """ARNs or names that the statement applies to; for a key policy, the keys."""
        return sorted({row["subject"] for row in self.rows if row["subject"]})

    @property
    def accounts(self) -> dict[str, str | None]:
        """Account ID to name."""
        return {row["account_id"]: row["account_name"] for row in self.rows}

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "cause": self.cause,
            "cause_text": self.cause_text,
            "fix_in": self.fix_in,
            "role": self.role,
            "actions": self.actions,
            "accounts": [{"account_id": each, "account_name": name} for each, name in sorted(self.accounts.items())],
            "subjects": self.subjects,
            "since_run": min(row["since_run"] for row in self.rows),
            "fix": self.fix,
            "denied": [{name: row[name] for name in CALL_COLUMNS} for row in self.rows],
        }

    def text_lines(self) -> Iterator[str]:
        """Lines for a terminal."""
        yield f"{_role_label(self.role)} is denied {', '.join(self.actions)}: {self.cause_text}"
        for account, name in sorted(self.accounts.items()):
            subjects = dict.fromkeys(
                f"{row['subject']} ({row['key_alias']})" if row["key_alias"] else row["subject"]
                for row in self.rows
                if row["account_id"] == account and row["subject"]
            )
            yield f"  {format_account_region(account, name, None)}{':' if subjects else ''}"
            yield from (f"    {subject}" for subject in list(subjects)[:_MAX_SUBJECTS])
            if len(subjects) > _MAX_SUBJECTS:
                yield f"    and {len(subjects) - _MAX_SUBJECTS} more (--format json lists all)"
        yield f"  Fix: {self.fix.where}:" if self.fix.statement else f"  Fix: {self.fix.where}."
        if self.fix.statement:
            yield from (f"    {line}" for line in json.dumps(self.fix.statement, indent=2).splitlines())


@dataclass(slots=True)
class Denials:
    """The denied calls of a run, grouped by fix."""

    run: RunRef
    denials: list[Denial]
    other_gaps: int
    """Gaps that are not denials."""

    @property
    def known(self) -> bool:
        """Whether no call was denied."""
        return not self.denials

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger denials --help` describes."""
        return {
            "format": FORMAT,
            "as_of": self.run,
            "denials": self.denials,
            "other_gaps": self.other_gaps,
            "notes": [UNREAD_DENIALS],
        }

    def to_text(self) -> str:
        """Text for a terminal."""
        calls = sum(len(denial.rows) for denial in self.denials)
        lines = [f"Denied calls: {calls}; statements that fix them: {len(self.denials)}. As of {self.run}."]
        if not self.denials:
            lines = [f"No call was denied. As of {self.run}."]
        for denial in self.denials:
            lines += ["", *denial.text_lines()]
        if self.denials:
            lines += ["", f"Note: {UNREAD_DENIALS}"]
        if self.other_gaps:
            lines += ["", f"Other gaps: {self.other_gaps}; see `kmsledger sql \"FROM coverage WHERE outcome = 'gap'\"`"]
        return "\n".join(map(printable, lines))


def denials(path: Path, *, as_of: str | None = None, role_name: str = "ROLE") -> Denials:
    """The denied calls of a mart, grouped by fix.

    ``role_name`` is the crawler's role, for denials in which AWS did not name it. Raises MartError or QueryError.
    """
    with opened(path, as_of) as facts:
        other_gaps = rows(facts.duck, _OTHER_GAPS)[0]["n"]
        return Denials(facts.run, group_by_fix(facts, role_name), other_gaps)


def group_by_fix(facts: Facts, role_name: str) -> list[Denial]:
    """The rows of view access_denials grouped by fix, the largest group first."""
    run = rows(facts.duck, _CALLER, {"run": facts.run.run_id})[0]
    caller = role_of(run["caller_arn"] or "")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows(facts.duck, _DENIED, {"partition": run["partition"] or "aws", "role_name": role_name}):
        # A key policy names one role of one account; the role's own policy is the same in all accounts.
        group = (row["cause"], row["fix_in"], row["policy_arn"], _in_any_account(row["denied_role"]))
        if row["fix_in"] in {"key_policy", "resource_policy"}:
            group = (*group[:3], row["denied_role"], row["account_id"], *row["actions_on_subject"])
        groups.setdefault(group, []).append(row)
    result = []
    for (cause, fix_in, policy, role, *_), denied in groups.items():
        actions = tuple(sorted({row["action"] for row in denied}))
        assuming = next((row["role"] or "" for row in denied if row["action"] == "sts:AssumeRole"), "")
        messages = [row["message"] or "" for row in denied]
        remedy = fix(cause, fix_in, role, actions, messages, role_of(assuming) or caller or None)
        remedy = _fix_in_key_policy(facts, remedy, role, denied) if fix_in == "denying_policy" else remedy
        if policy:
            remedy = replace(remedy, where=f"{remedy.where}, {policy}")
        result.append(Denial(cause, denied[0]["cause_text"] or cause, fix_in, role, actions, remedy, denied))
    return sorted(result, key=lambda denial: (-len(denial.rows), denial.cause, denial.role))


def _fix_in_key_policy(facts: Facts, general: Fix, role: str, denied: list[dict[str, Any]]) -> Fix:
    """The fix that names the statement of the key policy that denies the call, or else the general fix."""
    for row in denied:
        key = facts.key(row["key_arn"]) if row["key_arn"] else None
        principal = row["role"] or role.replace("::*:", f"::{row['account_id']}:")
        if key is None or key.policy is None:
            continue
        decision = allowed(key.policy, key.facts, facts.organization, principal, row["action"])
        if decision.effect is Effect.DENY and decision.source_id:
            where = f"add this condition to statement {decision.source_id} of the key policy of {key.facts.arn}"
            return Fix(where, general.statement)
    return general


def _in_any_account(role: str) -> str:
    head, _, rest = role.partition("::")
    return f"{head}::*:{rest.partition(':')[2]}" if rest[:12].isdecimal() else role


def _role_label(role: str) -> str:
    return f"Role {role.rpartition('/')[2]}" if ":role/" in role else role
