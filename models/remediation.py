"""The statement that allows a denied call, and the policy that it belongs in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FIX_IN = {
    "key_policy": "key_policy",
    "role_permission": "role_policy",
    "service_control_policy": "service_control_policy",
    "resource_control_policy": "resource_control_policy",
    "session_policy": "session_policy",
    "permissions_boundary": "permissions_boundary",
    "explicit_deny": "denying_policy",
    "denied": "role_policy",
    "role_missing_or_untrusted": "trust_policy",
    "trust": "trust_policy",
    "external_id": "trust_policy",
    "assume_role_permission": "caller_policy",
}
"""The policy in which a denial is fixed, by cause; the view access_denials has the same."""
EXTERNAL_ID = "the value of role.external_id"
"""The placeholder for the external ID, which output never contains."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A policy statement (or its condition) as JSON, and where it belongs."""

    where: str
    """An instruction that names the policy."""
    statement: dict[str, Any] | None
    certain: bool = True
    """False if AWS did not name the policy that decided."""


def fix(  # noqa: PLR0917 - the properties of one denial
    cause: str,
    fix_in: str,
    role: str,
    actions: Sequence[str],
    messages: Sequence[str],
    caller: str | None,
    trust: Sequence[dict[str, Any]] | None = None,
) -> Fix:
    """The fix for actions that a role was denied for one cause; ``caller`` is the principal that assumes the role.

    ``trust`` are the statements of the trust policy that the settings require; None if the settings are not known.
    """
    policy = fix_in.replace("_", " ")
    name = role.rpartition("/")[2]
    holder = f"{'user' if ':user/' in role else 'role'} {name}"
    grant: dict[str, Any] = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    allow = {"Sid": "ReadMetadata", **grant}
    exception = {"Condition": {"ArnNotLike": {"aws:PrincipalArn": [f"arn:{_partition(role)}:iam::*:role/{name}"]}}}
    match fix_in:
        case "key_policy" | "resource_policy":
            statement = {
                "Sid": "ReadKeyMetadata" if fix_in == "key_policy" else "ReadMetadata",
                "Effect": "Allow",
                "Principal": {"AWS": role},
                "Action": grant["Action"],
                "Resource": "*",
            }
            return Fix(f"add this statement to the {policy}", statement)
        case "role_policy":
            certain = cause != "denied"
            hint = "" if certain else "; AWS gave no reason, and this is the most frequent cause"
            return Fix(f"add this statement to a policy of {holder}{hint}", allow, certain)
        case "permissions_boundary":
            return Fix(f"add this statement to the permissions boundary of {holder}", allow)
        case "session_policy":
            return Fix(
                "allow it in the session policy with this statement; the crawler's own session policy is disabled with "
                "role.session_policy: false",
                allow,
            )
        case "service_control_policy" | "resource_control_policy":
            if any("explicit deny" in message.lower() for message in messages) or fix_in.startswith("resource"):
                return Fix(f"add this condition to the Deny statement of the {policy}", exception)
            return Fix(f"allow it with this statement in a {policy} at every level above the account", grant)
        case "denying_policy":
            return Fix("add this condition to the Deny statement that denies the call", exception, certain=False)
        case "caller_policy":
            statement = {"Sid": "AssumeTheRoles", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [role]}
            return Fix(f"add this statement to a policy of {caller or 'the identity that runs the crawler'}", statement)
        case _:
            return _trust(cause, name, caller) if trust is None else _trust_of_settings(cause, name, trust)


def _trust_of_settings(cause: str, name: str, trust: Sequence[dict[str, Any]]) -> Fix:
    """The trust policy that the settings require: with a condition only if they have an external ID."""
    several = len(trust) > 1
    statement = {"Version": "2012-10-17", "Statement": list(trust)} if several else trust[0]
    this = "these statements" if several else "this statement"
    if cause == "external_id" and "Condition" not in trust[0]:
        where = (
            f"set role.external_id to the value that the trust policy of role {name} requires, or replace the "
            f"requirement there by {this}"
        )
    else:
        where = _where(cause, name).replace("this statement", this)
    return Fix(where, statement, cause != "role_missing_or_untrusted")


def _where(cause: str, name: str) -> str:
    """Where a trust statement belongs."""
    return {
        "external_id": f"require the configured external ID in the trust policy of role {name} with this statement",
        "trust": f"add this statement to the trust policy of role {name}",
    }.get(
        cause,
        f"create role {name} (its policy: `kmsledger permissions --role member`) with this statement as its trust policy",
    )


def _trust(cause: str, name: str, caller: str | None) -> Fix:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": caller or "the ARN of the identity that runs the crawler"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    }
    where = f"{_where(cause, name)}; omit the condition if role.external_id is not set"
    return Fix(where, statement, cause != "role_missing_or_untrusted")


def _partition(arn: str) -> str:
    parts = arn.split(":")
    return parts[1] if len(parts) > 1 and parts[1] else "aws"
