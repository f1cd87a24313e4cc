"""The result of ``who-can``: principals with their access paths, what it relies on, and what is unknown; as text and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from models.safe_text import printable
from reports.access.engine.model import Access
from reports.answers.access_paths import AccessPath
from reports.answers.change_event import fields_of, format_account_region
from reports.mart.as_of import RunRef

FORMAT = "kmsledger.who-can/1"
YES, CONDITIONAL, UNKNOWN, UNUSED = "yes", "conditional", "unknown", "unused"
"""Whether the principal has access; ``conditional`` on IAM policies that were not collected; ``unused``: no such principal."""
_HEADINGS = {
    YES: "Yes",
    CONDITIONAL: "Depends on IAM",
    UNKNOWN: "Unknown",
    UNUSED: "Allowed, but no such principal exists",
}
_RANK = {answer: rank for rank, answer in enumerate(_HEADINGS)}


@dataclass(slots=True)
class PrincipalAccess:
    """One principal (or a group such as everyone) with each of its access paths once."""

    principal: str
    principal_type: str
    """role, user, root, session, account, service, everyone, organization, deleted, other."""
    account_id: str | None
    account_name: str | None
    party: str | None
    access: Access
    """Its relation to the key's owner."""
    answer: str
    message: str
    reason: str = ""
    """Why it is unknown, or what it depends on."""
    access_paths: list[AccessPath] = field(default_factory=list)
    """To the key."""
    resource_access_paths: list[AccessPath] = field(default_factory=list)
    """To the secret itself, if the target is a secret."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        values = fields_of(self) | {"reason": self.reason or None}
        paths = {name: values.pop(name) for name in ("access_paths", "resource_access_paths")}
        operations = sorted({operation for path in self.access_paths for operation in path.operations})
        return values | {"operations": operations} | paths


@dataclass(slots=True)
class KeyAnswer:
    """Who can perform the operations on one key; for a secret, who can read it."""

    key_arn: str | None = None
    key_name: str | None = None
    key_state: str | None = None
    role: str | None = None
    """What the key does for the resource."""
    principals: list[PrincipalAccess] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What is unknown, a phrase each; if there are any, there may be more principals."""


@dataclass(slots=True)
class Answer:
    """Who can perform some operations on a target, for each of its keys."""

    as_of: RunRef
    question: str
    target: str
    """The target's ARN."""
    target_type: str
    """``key``, or the resource's CloudFormation type."""
    operations: tuple[str, ...]
    keys: list[KeyAnswer]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger who-can --help` describes."""
        return {"format": FORMAT, **fields_of(self)}

    @property
    def known(self) -> bool:
        """Whether nothing is unknown or depends on IAM policies that were not collected."""
        uncertain = {UNKNOWN, CONDITIONAL}
        return not any(
            key.unknown or any(principal.answer in uncertain for principal in key.principals) for key in self.keys
        )

    def to_text(self) -> str:
        """The answer as text for a terminal."""
        lines = [self.question, f"  as of {self.as_of}"]
        for key in self.keys:
            lines += ["", *self._key_lines(key)]
        if self.notes:
            lines += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(map(printable, lines))

    def _key_lines(self, key: KeyAnswer) -> Iterable[str]:
        if key.key_arn is not None:
            name = f" ({key.key_name})" if key.key_name and not key.key_arn.endswith(key.key_name) else ""
            state = f", state {key.key_state}" if key.key_state not in {None, "Enabled"} else ""
            role = f", {key.role}" if key.role else ""
            yield f"Key {key.key_arn}{name}{role}{state}"
        for answer, heading in _HEADINGS.items():
            principals = [principal for principal in key.principals if principal.answer == answer]
            if principals:
                yield f"  {heading}:"
            for principal in principals:
                yield from self._principal_lines(principal)
        if not key.principals:
            yield "  No known principals." if key.unknown else "  Nobody."
        for phrase in key.unknown:
            yield f"  Unknown: {phrase}"

    def _principal_lines(self, principal: PrincipalAccess) -> Iterable[str]:
        owner = ""
        if principal.account_id:
            account = format_account_region(principal.account_id, principal.account_name, None)
            owner = f"  [{principal.party or account}]"
        names = {"root": "the root user", "account": f"principals of account {principal.account_id}"}
        name = principal.message if principal.principal == "*" else principal.principal
        yield f"    {names.get(principal.principal_type, name)}{owner}"
        for path in principal.resource_access_paths:
            yield f"      secret: {path.describe()}"
        for path in principal.access_paths:
            label = "key: " if principal.resource_access_paths else ""
            operations = f" ({', '.join(path.operations)})" if len(self.operations) > 1 and path.operations else ""
            yield f"      {label}{path.describe()}{operations}"
        if principal.reason:
            yield f"      {principal.reason}"


def merge_principals(principals: Iterable[PrincipalAccess]) -> list[PrincipalAccess]:
    """Each principal once with all its access paths, those with certain access first."""
    merged: dict[tuple[str | None, str | None, str], PrincipalAccess] = {}
    for principal in principals:
        # An account can be written as its ID or as its root ARN.
        name = None if principal.principal_type == "account" else principal.principal
        first = merged.setdefault((name, principal.account_id, principal.principal_type), principal)
        if first is principal:
            continue
        for paths, more in (
            (first.access_paths, principal.access_paths),
            (first.resource_access_paths, principal.resource_access_paths),
        ):
            paths.extend(path for path in more if path not in paths)
        if _RANK[principal.answer] < _RANK[first.answer]:
            first.answer, first.message, first.reason = principal.answer, principal.message, principal.reason
    return sorted(merged.values(), key=_order)


def _order(principal: PrincipalAccess) -> tuple[int, str, str]:
    return _RANK[principal.answer], principal.account_id or "", principal.principal
