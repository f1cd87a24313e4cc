"""Enforces IAM policies: those of the crawler's identity and of roles, the trust policies and the session policies.

As documented in "Policy evaluation logic" (IAM user guide): an explicit Deny wins, everything else needs an Allow, a session may
do what its role and its session policy both allow, and assuming a role needs a policy of the caller and the trust policy. What
is not known here raises ValueError, so that a policy is never enforced in part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from benchmarks.fake_aws.request_context import ACTIONS, Call

ASSUME_ROLE = "sts:AssumeRole"
NEEDS_NO_PERMISSION = frozenset({"sts:GetCallerIdentity"})
ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Role:
    """The policies of a role, in whatever account it is."""

    permissions: Document
    trust: Document


@dataclass(slots=True)
class Authorization:
    """The policies of one organization. Every role name stands for the roles of that name in all accounts."""

    identity: Document
    roles: Mapping[str, Role]
    allowed: set[tuple[str, str]] = field(default_factory=set)
    """Account of the caller and action, for each call that needs a permission."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    _session_policies: dict[str, Document] = field(default_factory=dict)
    """By access key."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the authorization of the admin API: `identity`, and `roles` with `permissions` and `trust`."""
        roles = {name: Role(role["permissions"], role["trust"]) for name, role in values["roles"].items()}
        authorization = cls(values["identity"], roles)
        for document in (
            values["identity"],
            *(policy for role in roles.values() for policy in (role.permissions, role.trust)),
        ):
            for statement in _statements(document):
                _check(statement)
        return authorization

    def check(self, call: Call) -> None:
        """Raise ApiError unless the policies allow a call."""
        if call.operation in NEEDS_NO_PERMISSION:
            return
        if call.operation != ASSUME_ROLE:
            action = ACTIONS.get(call.operation, call.operation)
            if not self._record(call, action, is_allowed=self._may(call, action, "*")):
                raise call.denied("role")
            return
        arn, context = str(call.params.get("RoleArn", "")), {"sts:ExternalId": call.params.get("ExternalId")}
        role = self.roles.get(arn.rpartition("/")[2])
        for action in _session_actions(call.params):
            is_trusted = role is not None and _allows(role.trust, action, arn, context, call.session.arn)
            may = self._may(call, action, arn)
            if not self._record(call, action, is_allowed=may and is_trusted):
                raise call.denied("bare" if may else "role", arn)

    def report(self) -> dict[str, Any]:
        """The calls as JSON values: pairs of account and action."""
        return {"allowed": sorted(self.allowed), "denied": sorted(self.denied)}

    def _may(self, call: Call, action: str, resource: str) -> bool:
        return all(_allows(document, action, resource, {}) for document in self._policies_of(call))

    def _record(self, call: Call, action: str, *, is_allowed: bool) -> bool:
        (self.allowed if is_allowed else self.denied).add((call.session.account_id, action))
        return is_allowed

    def remember(self, call: Call, response: Mapping[str, Any]) -> None:
        """Keep the session policy of a session that sts:AssumeRole returned."""
        if call.operation == ASSUME_ROLE and (policy := call.params.get("Policy")):
            self._session_policies[response["Credentials"]["AccessKeyId"]] = orjson.loads(policy)

    def _policies_of(self, call: Call) -> Iterator[Document]:
        """Yield the policies of which each has to allow a call."""
        resource = call.session.arn.rpartition(":")[2].split("/")
        if resource[0] != "assumed-role":
            yield self.identity
            return
        yield self.roles[resource[1]].permissions
        if (session_policy := self._session_policies.get(call.session.access_key)) is not None:
            yield session_policy


def _session_actions(params: Mapping[str, Any]) -> Iterator[str]:
    yield ASSUME_ROLE
    if params.get("SourceIdentity"):
        yield "sts:SetSourceIdentity"
    if any(name.startswith("Tags.") for name in params):
        yield "sts:TagSession"


def _allows(
    document: Document, action: str, resource: str, context: Mapping[str, Any], principal: str | None = None
) -> bool:
    """Return whether a policy allows an action; a trust policy also has to name the principal."""
    effects = {
        statement["Effect"]
        for statement in _statements(document)
        if any(_matches(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and (principal is not None or any(_matches(pattern, resource) for pattern in _list(statement["Resource"])))
        and (principal is None or _names(statement["Principal"], principal))
        and _is_met(statement.get("Condition", {}), context)
    }
    return effects == {"Allow"}


def _statements(document: Document) -> list[Document]:
    return _list(document["Statement"])


def _check(statement: Document) -> None:
    operators = set(statement.get("Condition", {}))
    if unknown := (set(statement) - ELEMENTS) | (operators - {"StringEquals"}):
        raise ValueError(f"the endpoint does not enforce {', '.join(sorted(unknown))}")


def _matches(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text) is not None


def _names(principal: Mapping[str, Any], arn: str) -> bool:
    """Return whether a principal element names an identity or its account."""
    account = arn.split(":")[4]
    names = {arn, account, f"arn:aws:iam::{account}:root"}
    return any(name in names for name in _list(principal["AWS"]))


def _is_met(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, Any]) -> bool:
    return all(context.get(key) in _list(values) for keys in condition.values() for key, values in keys.items())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
