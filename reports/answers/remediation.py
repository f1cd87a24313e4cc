"""What would let a denied call through: the statement, and in which policy it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EXTERNAL_ID = "the value of role.external_id"
"""Stands in a trust policy for the external id, which is told nowhere."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A statement (or the part of one) as JSON, and where it goes."""

    where: str
    """For people: into which policy, and how."""
    statement: dict[str, Any] | None
    certain: bool = True
    """False when AWS did not say which policy decided."""


def fix(  # noqa: PLR0917 - the six words of one refusal
    cause: str, fix_in: str, role: str, actions: Sequence[str], messages: Sequence[str], caller: str | None
) -> Fix:
    """The fix for actions that a role was refused for one cause; ``caller`` is who assumes the role."""
    listed = sorted(actions)
    name = role.rpartition("/")[2]
    allow = {"Sid": "ReadMetadata", "Effect": "Allow", "Action": listed, "Resource": "*"}
    exception = {"Condition": {"ArnNotLike": {"aws:PrincipalArn": [f"arn:{_partition(role)}:iam::*:role/{name}"]}}}
    match fix_in:
        case "key_policy" | "resource_policy":
            statement = {
                "Sid": "ReadKeyMetadata" if fix_in == "key_policy" else "ReadMetadata",
                "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": listed,
                "Resource": "*",
            }
            return Fix(f"add this statement to the {fix_in}", statement)
        case "role_policy":
            sure = cause != "denied"
            hint = "" if sure else "; AWS gave no reason, and this is the most frequent one"
            return Fix(f"add this statement to a policy of role {name}{hint}", allow, sure)
        case "permissions_boundary":
            return Fix(f"add this statement to the permissions boundary of role {name}", allow)
        case "session_policy":
            return Fix(
                "let the session policy allow it with this statement; the one that this program sends itself is switched off by "
                "role.session_policy: false",
                allow,
            )
        case "service_control_policy" | "resource_control_policy":
            if any("explicit deny" in message.lower() for message in messages) or fix_in.startswith("resource"):
                return Fix(f"add this condition to the Deny statement of the {fix_in}", exception)
            return Fix(f"let a {fix_in} at every level above the account allow it with this statement", _bare(allow))
        case "denying_policy":
            return Fix("add this condition to the Deny statement that denies it", exception, certain=False)
        case "caller_policy":
            statement = {"Sid": "AssumeTheRoles", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [role]}
            return Fix(f"add this statement to a policy of {caller or 'the identity that runs the crawler'}", statement)
        case _:
            return _trust(cause, name, caller)


def _trust(cause: str, name: str, caller: str | None) -> Fix:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": caller or "the ARN of the identity that runs the crawler"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    }
    where = {
        "external_id": f"let the trust policy of role {name} ask for the configured external id, with this statement",
        "trust": f"add this statement to the trust policy of role {name}",
    }.get(cause, f"create role {name} (its policy: `kmsledger permissions`) with this statement as its trust policy")
    return Fix(
        f"{where}; without role.external_id leave the condition out", statement, cause != "role_missing_or_untrusted"
    )


def _bare(statement: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in statement.items() if name != "Sid"}


def _partition(arn: str) -> str:
    parts = arn.split(":")
    return parts[1] if len(parts) > 1 and parts[1] else "aws"
