"""Our own denied calls: who was denied what, why, and the statement that would let it through; one fix for many keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.access.engine.evaluator import allowed
from reports.access.engine.model import Effect
from reports.answers.remediation import Fix, fix
from reports.answers.repository import Facts, opened
from reports.answers.version_diff import rows
from reports.mart.as_of import Moment
from reports.mart.change_event import moment, place
from reports.mart.result_writers import printable

FORMAT = "kmsledger.denials/1"
_SHOWN = 10
_DENIED = "SELECT * FROM access_denials ORDER BY account_id, region, subject, action"
_OTHERS = """
SELECT count(*) AS n FROM coverage c
WHERE c.outcome = 'gap' AND NOT EXISTS (FROM access_denials p WHERE p.cause = c.cause)
"""
_CALLER = "SELECT caller_arn FROM internal.run WHERE run_id = $run"


@dataclass(slots=True)
class Denial:
    """Refusals that one statement puts right."""

    cause: str
    cause_text: str
    fix_in: str
    role: str
    """The role's ARN; with ``*`` for the account where the same statement serves several."""
    actions: tuple[str, ...]
    fix: Fix
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of view access_denials."""

    @property
    def subjects(self) -> list[str]:
        """ARNs or names that the statement is for: the keys, for a key policy."""
        return sorted({row["subject"] for row in self.rows if row["subject"]})

    @property
    def accounts(self) -> dict[str, str | None]:
        """Id to name."""
        return {row["account_id"]: row["account_name"] for row in self.rows}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cause": self.cause,
            "cause_text": self.cause_text,
            "fix_in": self.fix_in,
            "role": self.role,
            "actions": list(self.actions),
            "accounts": [{"account_id": one, "account_name": name} for one, name in sorted(self.accounts.items())],
            "subjects": self.subjects,
            "since_run": min(row["since_run"] for row in self.rows),
            "fix": {"where": self.fix.where, "statement": self.fix.statement, "certain": self.fix.certain},
            "denied": [
                {
                    name: row[name]
                    for name in ("account_id", "region", "role", "action", "subject", "key_alias", "message")
                }
                for row in self.rows
            ],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{_name(self.role)} may not {', '.join(self.actions)}: {self.cause_text}"
        for account, name in sorted(self.accounts.items()):
            mine = [row for row in self.rows if row["account_id"] == account]
            shown = dict.fromkeys(
                f"{row['subject']} ({row['key_alias']})" if row["key_alias"] else row["subject"]
                for row in mine
                if row["subject"]
            )
            yield f"  {place(account, name, None)}{':' if shown else ''}"
            yield from (f"    {subject}" for subject in list(shown)[:_SHOWN])
            if len(shown) > _SHOWN:
                yield f"    and {len(shown) - _SHOWN} more (--format json has them all)"
        yield f"  Fix: {self.fix.where}:" if self.fix.statement else f"  Fix: {self.fix.where}."
        if self.fix.statement:
            yield from (f"    {line}" for line in json.dumps(self.fix.statement, indent=2).splitlines())


@dataclass(slots=True)
class Denials:
    """All of them."""

    end: Moment
    denials: list[Denial]
    others: int
    """Gaps that are no denials."""

    def plain(self) -> dict[str, Any]:
        """For JSON; the README describes it."""
        return {
            "format": FORMAT,
            "as_of": moment(self.end),
            "denials": [one.plain() for one in self.denials],
            "other_gaps": self.others,
        }

    def lines(self) -> list[str]:
        """For people."""
        calls = sum(len(one.rows) for one in self.denials)
        found = [f"{calls} calls of ours were denied; {len(self.denials)} statements put that right. As of {self.end}."]
        if not self.denials:
            found = [f"No call of ours was denied. As of {self.end}."]
        for one in self.denials:
            found += ["", *one.lines()]
        if self.others:
            found += [
                "",
                f"{self.others} other gaps are no denials: `kmsledger sql \"FROM coverage WHERE outcome = 'gap'\"`",
            ]
        return [printable(line) for line in found]


def denials(path: Path, *, as_of: str | None = None, role_name: str = "ROLE") -> Denials:
    """The denied calls of a mart, grouped by what puts them right.

    ``role_name`` is the crawler's role, for denials in which AWS did not name it. Raises MartError or QueryError.
    """
    with opened(path, as_of) as facts:
        others = rows(facts.duck, _OTHERS)[0]["n"]
        return Denials(facts.moment, grouped(facts, role_name), others)


def grouped(facts: Facts, role_name: str) -> list[Denial]:
    """The rows of view access_denials by what puts them right, the most first."""
    caller = _role_of(rows(facts.duck, _CALLER, {"run": facts.moment.run_id})[0]["caller_arn"])
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for (fix_in, role, account, cause, policy, _), mine in _by_subject(rows(facts.duck, _DENIED), role_name).items():
        actions = tuple(sorted({row["action"] for row in mine}))
        # The policy of a key belongs to one role of one account; a role's own is the same in all accounts.
        local = fix_in in {"key_policy", "resource_policy"}
        key = (
            cause,
            fix_in,
            role if local else _anywhere(role),
            account if local else "",
            policy,
            actions if local else (),
        )
        groups.setdefault(key, []).extend(mine)
    found = []
    for (cause, fix_in, role, _, policy, _), mine in groups.items():
        actions = tuple(sorted({row["action"] for row in mine}))
        who = _role_of(next((row["role"] for row in mine if row["action"] == "sts:AssumeRole"), None)) or caller
        one = fix(cause, fix_in, role, actions, [row["message"] or "" for row in mine], who)
        one = _nearer(facts, one, role, mine) if fix_in == "denying_policy" else one
        if policy:
            one = Fix(f"{one.where}, {policy}", one.statement, one.certain)
        found.append(Denial(cause, mine[0]["cause_text"] or cause, fix_in, role, actions, one, mine))
    return sorted(found, key=lambda one: (-len(one.rows), one.cause, one.role))


def _by_subject(listed: Iterable[dict[str, Any]], role_name: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in listed:
        assuming = row["action"] == "sts:AssumeRole"
        named = row["subject"] if assuming else row["role"]
        role = named or f"arn:aws:iam::{row['account_id']}:role/{role_name}"
        local = row["fix_in"] in {"key_policy", "resource_policy"}
        key = (row["fix_in"], role, row["account_id"], row["cause"], row["policy_arn"], row["subject"] if local else "")
        found.setdefault(key, []).append(row)
    return found


def _nearer(facts: Facts, general: Fix, role: str, mine: list[dict[str, Any]]) -> Fix:
    """The statement of the key policy that denies it, when it is that."""
    for row in mine:
        key = facts.key(row["key_arn"]) if row["key_arn"] else None
        who = row["role"] or role.replace("::*:", f"::{row['account_id']}:")
        if key is None or key.policy is None:
            continue
        told = allowed(key.policy, key.facts, facts.organization, who, row["action"])
        if told.effect is Effect.DENY and told.source_id:
            where = f"add this condition to statement {told.source_id} of the key policy of {key.facts.arn}"
            return Fix(where, general.statement)
    return general


def _anywhere(role: str) -> str:
    head, _, rest = role.partition("::")
    return f"{head}::*:{rest.partition(':')[2]}" if rest[:12].isdecimal() else role


def _name(role: str) -> str:
    return f"Role {role.rpartition('/')[2]}" if ":role/" in role else role


def _role_of(arn: str | None) -> str | None:
    """The role of a session; other ARNs as they are."""
    if arn is None or ":assumed-role/" not in arn:
        return arn
    head, _, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"
