"""The results of `kmsledger doctor`: what was checked, whether it works, and the fix if it does not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from models.errors import UserError
from models.safe_text import escaped_json, printable

FORMAT: Final = "kmsledger.doctor/1"
DONE, USAGE, PARTIAL, FAILED = 0, 2, 3, 4
"""The exit codes."""
MAX_NAMED = 10
"""Accounts or ARNs that a message names."""


class Status(StrEnum):
    """Whether something works."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be checked."""
    PROBLEM = "problem"
    """A run would succeed, but lack something or expose something."""
    FATAL = "fatal"
    """No run can succeed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis."""

    name: str
    """What was checked: credentials, organization, role, action, region, key policy, database ..."""
    status: Status
    message: str
    fix: str = ""
    """A command or an instruction; empty if it works."""
    statement: dict[str, Any] | None = None
    """The policy statement (or condition) that the fix refers to."""
    accounts: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """Actions, regions, ARNs or files that it is about."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "check": self.name,
            "status": str(self.status),
            "message": self.message,
            "fix": self.fix or None,
            "statement": self.statement,
            "accounts": list(self.accounts),
            "subjects": list(self.subjects),
        }


def ok(name: str, message: str, *subjects: str) -> Check:
    """A check of something that works."""
    return Check(name, Status.OK, message, subjects=subjects)


def problem(name: str, message: str, fix: str, *subjects: str, fatal: bool = False) -> Check:
    """A check of something that does not work."""
    return Check(name, Status.FATAL if fatal else Status.PROBLEM, message, fix, subjects=subjects)


def unknown(name: str, message: str, fix: str, *subjects: str, statement: dict[str, Any] | None = None) -> Check:
    """A check that could not be made; the message says what is unknown, and why."""
    return Check(name, Status.UNKNOWN, message, fix, statement, subjects=subjects)


def from_error(name: str, error: UserError, *, fatal: bool = False) -> Check:
    """The check that an error describes: its sentences name the cause and, after the last colon, the fix."""
    cause, _, fix = str(error).rpartition(": ")
    return problem(name, cause or fix, fix if cause else "correct what the message names", fatal=fatal)


def named(items: Iterable[str]) -> str:
    """The first of some names, and the number of the others."""
    listed = list(items)
    more = f" and {len(listed) - MAX_NAMED:,} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


@dataclass(slots=True)
class Diagnosis:
    """All checks, in the order in which they were made."""

    checks: list[Check] = field(default_factory=list)
    invalid_settings: bool = False
    """Whether a setting is invalid."""

    def add_invalid_settings(self, checks: Iterable[Check]) -> None:
        """Add the problems of the settings."""
        self.checks += checks
        self.invalid_settings = True

    @property
    def problems(self) -> Sequence[Check]:
        """The checks of what does not work."""
        return [check for check in self.checks if check.status in {Status.PROBLEM, Status.FATAL}]

    @property
    def unknown(self) -> Sequence[Check]:
        """The checks that could not be made."""
        return [check for check in self.checks if check.status is Status.UNKNOWN]

    @property
    def exit_code(self) -> int:
        """0 if everything works, 2 for invalid settings, 4 if no run can succeed, 3 for other problems and unknown results."""
        if self.invalid_settings:
            return USAGE
        if any(check.status is Status.FATAL for check in self.checks):
            return FAILED
        return PARTIAL if self.problems or self.unknown else DONE

    def to_json(self) -> str:
        """The JSON document."""
        document = {
            "format": FORMAT,
            "exit_code": self.exit_code,
            "problems": len(self.problems),
            "unknown": len(self.unknown),
            "checks": [check.to_dict() for check in self.checks],
        }
        return escaped_json(json.dumps(document, indent=2))

    def to_text(self) -> str:
        """A table for a terminal: one line per check, and the fix below each problem."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines: list[str] = []
        for check in self.checks:
            lines.append(f"{check.status:<7}  {check.name:<{width}}  {check.message}")
            indent = " " * (width + 11)
            if check.fix:
                lines.append(f"{indent}fix: {check.fix}")
            if check.statement is not None:
                lines += [f"{indent}{line}" for line in json.dumps(check.statement, indent=2).splitlines()]
        return "\n".join(map(printable, [*lines, self._summary()]))

    def _summary(self) -> str:
        problems, unknown_count = len(self.problems), len(self.unknown)
        parts = [f"{problems} problem{'' if problems == 1 else 's'}"] if problems else []
        if unknown_count:
            parts.append(f"{unknown_count} check{'' if unknown_count == 1 else 's'} could not be made")
        return ", ".join(parts) or "everything works"
