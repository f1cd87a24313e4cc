"""The access paths of one identity to a resource: through the resource's policy, its grants and the identity's own policies.

A statement of the resource and a statement of the identity count together only if one request can satisfy the conditions of
both and of the permissions boundary, and matches no Deny.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from reports.access.engine.conditions import Element, Value
from reports.access.engine.context_values import INSIDE_NETWORKS, CandidateContext, compared_values
from reports.access.engine.grant_analysis import analyse_grant, constraint_conditions
from reports.access.engine.kms_actions import BY_POLICY_MASK, CROSS_ACCOUNT_MASK, bit, supported
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import PolicyAnalyzer
from reports.access.engine.policy_parser import Named, Policy, Statement
from reports.access.engine.principals import classify
from reports.access.engine.request_principals import Caller, Kind, Origin, audience
from reports.access.engine.solver import Call, Denies, Rule, denies_of, describe_rule, search
from reports.answers.change_event import fields_of
from reports.answers.policy_documents import Document, StatementMatch, document, rules_about
from reports.answers.repository import Identity, Key

_ALLOW_ALL = document("", '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}')
ANONYMOUS_ACCOUNT = "000000000001"
"""The account ID that stands for any AWS account; no account has it."""
_BOUNDARY_CAVEAT = "AWS does not document whether a permissions boundary limits what a policy gives to everyone"
_OTHER_SERVICE = bit("DescribeKey")
"""Stands for an operation of another service, whose requests have the same global condition keys as this operation."""


@dataclass(frozen=True, slots=True)
class AccessPath:
    """One access path: a statement or grant, and the statements of the identity's own policies that it needs."""

    path: str
    """``policy`` (of the resource), ``grant``, or ``iam`` if only the identity's own policies allow it."""
    source_id: str
    """The statement's Sid, or ``#`` and its position; the grant's ID; empty for ``iam``."""
    operations: tuple[str, ...]
    conditions: str = ""
    identity_policies: tuple[str, ...] = ()
    """The identity's policies and statements that allow it; empty if it needs none."""
    needs_iam: bool = False
    """The principal's own account must allow it too, and its IAM policies are unknown."""
    certain: bool = True
    reason: str = ""
    """Why it is not certain."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object, in which empty texts are null."""
        return {name: None if raw == "" else raw for name, raw in fields_of(self).items()}

    def describe(self) -> str:
        """A phrase such as ``statement Use with policy x (#0), only through ...``."""
        source = {"policy": f"statement {self.source_id}", "grant": f"grant {self.source_id}", "iam": ""}[self.path]
        text = " with ".join(filter(None, (source, " or ".join(self.identity_policies))))
        text = text or ("its own IAM" if self.needs_iam else "its own account")
        if self.needs_iam:
            text += ", if its own IAM allows"
        conditions = f", {self.conditions}" if self.conditions else ""
        return f"{text}{conditions}{'' if self.certain else f' (unknown: {self.reason})'}"


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """A key or secret, its own policy and grants, and the context values that every request to it carries."""

    facts: KeyFacts
    organization: Organization
    rules: tuple[Rule, ...]
    unread: str = ""
    """Why its policy may contain more than the rules."""
    iam_sufficient: bool = False
    """Whether identity policies suffice in the resource's own account; a key's policy must delegate to them first."""
    context: Mapping[str, Value] | None = None
    grants: tuple[tuple[Grant, tuple[Verdict, ...]], ...] = ()

    def access_paths(self, identity: Identity, actions: Iterable[str]) -> tuple[AccessPath, ...]:
        """The access paths of an identity to the actions; a path that allows several actions is returned once."""
        actions_by_path: dict[AccessPath, list[str]] = {}
        caller = caller_of(identity, self.organization)
        for action in actions:
            operation = bit(action) if action.startswith("kms:") else _OTHER_SERVICE
            if action.startswith("kms:") and not self._is_possible(operation, identity.account):
                continue
            for path in _PathSearch(self, identity, caller, action, operation).access_paths():
                actions_by_path.setdefault(path, []).append(action)
        return tuple(replace(path, operations=tuple(allowed)) for path, allowed in actions_by_path.items())

    def _is_possible(self, operation: int, account: str) -> bool:
        usable = supported(self.facts.key_spec, self.facts.key_usage) & BY_POLICY_MASK
        return bool(operation & usable and (account == self.facts.account or operation & CROSS_ACCOUNT_MASK))


def protected_key(
    key: Key, organization: Organization, context: Mapping[str, Value] | None = None
) -> ProtectedResource:
    """A key as a protected resource; with ``context``, for requests that carry these values."""
    policy = key.policy or Policy(readable=True)
    analyzer = PolicyAnalyzer(policy, key.facts, organization)
    grants = tuple((grant, analyse_grant(grant, key.facts, organization, key.policy)) for grant in key.grants)
    unread = "" if policy.readable else "a statement of the key policy cannot be parsed"
    return ProtectedResource(key.facts, organization, analyzer.rules, unread, context=context, grants=grants)


def protected_resource(
    facts: KeyFacts, organization: Organization, policy: Document, action: str, context: Mapping[str, Value]
) -> ProtectedResource:
    """A resource of another service, for one action: its own account's IAM, and its policy."""
    matching = rules_about([policy], action, facts.arn, operation=_OTHER_SERVICE)
    own_account = Statement(-1, readable=True, principal_kind="Principal", principals=(Named("AWS", facts.account),))
    iam_rule = Rule(own_account, True, _OTHER_SERVICE, audience(own_account), (), about_key=True)
    rules = (iam_rule, *(match.rule for match in (*matching.allows, *matching.denies)))
    return ProtectedResource(facts, organization, rules, matching.unread, iam_sufficient=True, context=context)


def caller_of(identity: Identity, organization: Organization) -> Caller:
    """The policy engine's caller for an identity."""
    if identity.type == "everyone":
        return Caller(Kind.IDENTITY, Origin.STRANGER, "anyone", ANONYMOUS_ACCOUNT)
    origin = Origin.OURS if identity.account in organization.accounts else Origin.NAMED
    if identity.type == "account":
        return Caller(Kind.IDENTITY, origin, identity.arn, identity.account)
    kind = Kind.ROOT if identity.type == "root" else Kind.IDENTITY
    return Caller(
        kind,
        origin,
        identity.arn,
        identity.account,
        identity.arn,
        unique_id=identity.unique_id,
        has_boundary=identity.boundary is not None,
    )


def root_of(account: str, partition: str = "aws") -> Identity:
    """The root user of an account, which no IAM policy limits."""
    return Identity(f"arn:{partition}:iam::{account}:root", account, "root", policies=(_ALLOW_ALL,))


def uncollected(account: str, arn: str, kind: str = "account") -> Identity:
    """An identity of an account whose IAM policies are unknown; all of its principals, if the ARN is that of the root user."""
    return Identity(arn, account, kind, collected=False, chooses_tags=True)


def meets_constraints(constraints: str | None, context: Mapping[str, str]) -> bool:
    """Whether an encryption context (``*`` stands for any value) meets the constraints of a grant."""
    try:
        parsed = orjson.loads(constraints) if constraints else {}
    except orjson.JSONDecodeError:
        return True  # the path's conditions report that the constraints are unknown
    for name in ("EncryptionContextSubset", "EncryptionContextEquals"):
        pairs = parsed.get(name) if isinstance(parsed, dict) else None
        if isinstance(pairs, dict):
            if any(context.get(key) not in {value, "*"} for key, value in pairs.items()):
                return False
            if name == "EncryptionContextEquals" and set(pairs) != set(context):
                return False
    return True


class _PathSearch:
    """The search for the access paths of one identity to one action."""

    def __init__(
        self, resource: ProtectedResource, identity: Identity, caller: Caller, action: str, operation: int
    ) -> None:
        self._resource, self._identity, self._caller = resource, identity, caller
        self._action, self._operation = action, operation
        arn = resource.facts.arn
        boundary = identity.boundary
        self._own_rules = rules_about(identity.policies, action, arn, operation=operation)
        self._boundary = rules_about([boundary], action, arn, operation=operation) if boundary else None
        limits = [self._own_rules, self._boundary] if self._boundary else [self._own_rules]
        matches = [match for rules in limits for match in (*rules.allows, *rules.denies)]
        elements = [each for rule in (*resource.rules, *(match.rule for match in matches)) for each in rule.elements]
        self._call = Call(
            CandidateContext(compared_values(elements), resource.facts, resource.organization),
            caller,
            operation,
            INSIDE_NETWORKS,
            self._fixed_values(elements),
        )
        self._own_denies: Denies = [(deny.rule, deny.certain or None) for rules in limits for deny in rules.denies]

    def access_paths(self) -> Iterable[AccessPath]:
        denies = [*denies_of(self._resource.rules, self._caller, self._operation), *self._own_denies]
        same_account = self._identity.account == self._resource.facts.account
        for rule in self._resource.rules:
            operative = rule.allow and rule.about_key and rule.operations & self._operation
            if not operative or not rule.audience.allows(self._caller):
                continue
            direct = same_account and rule.audience.directly(self._caller)
            iam_only = rule.statement.position < 0
            if self._resource.iam_sufficient and same_account and not direct and not iam_only:
                continue  # the IAM rule of the own account already covers it
            source = ("iam", "") if iam_only else ("policy", rule.name)
            path = self._through(*source, rule.elements, denies, direct=direct)
            everyone = rule.audience.everyone or rule.audience.inverted
            if path is None and direct and everyone and self._boundary is not None:
                if search(rule.elements, denies, self._call).answer is not False:
                    yield AccessPath(*source, (), certain=False, reason=_BOUNDARY_CAVEAT)
            elif path:
                yield path
        for grant, verdicts in self._resource.grants:
            yield from self._through_grant(grant, verdicts)

    def _through_grant(self, grant: Grant, verdicts: Sequence[Verdict]) -> Iterable[AccessPath]:
        for verdict in verdicts:
            grantee = classify(Named("AWS", verdict.principal))
            by_name = verdict.principal == self._identity.arn
            by_account = grantee.type == "account" and grantee.account == self._identity.account
            if (
                self._action not in verdict.operations
                or not (by_name or by_account)
                or verdict.access is Access.DELETED
            ):
                continue
            context = _encryption_context(self._resource.context)
            if context is not None and not meets_constraints(grant.constraints, context):
                continue
            direct = by_name and self._identity.account == self._resource.facts.account
            unknown_reason = verdict.reason if verdict.access is Access.UNKNOWN else ""
            if path := self._through("grant", grant.grant_id, (), self._own_denies, direct=direct):
                constraints = constraint_conditions(grant.constraints, self._operation)
                yield replace(
                    path,
                    conditions="; ".join(filter(None, (constraints, path.conditions))),
                    certain=path.certain and not unknown_reason,
                    reason=path.reason or unknown_reason,
                )

    def _through(
        self, path: str, source_id: str, elements: tuple[Element, ...], denies: Denies, *, direct: bool
    ) -> AccessPath | None:
        """The path, if there is one, with every statement of the identity that allows it."""
        unlimited: tuple[StatementMatch | None, ...] = (None,)
        identity = self._identity
        allows = unlimited if direct or not identity.collected else self._own_rules.allows
        needs_iam = not direct and not identity.collected
        # A boundary does not limit what a resource policy gives a user or session by name; it limits what it gives a role.
        beyond = self._boundary is None or (direct and (identity.type == "user" or ":assumed-role/" in identity.arn))
        bounds = unlimited if beyond or self._boundary is None else self._boundary.allows
        certain: dict[str, tuple[Element, ...]] = {}
        uncertain: dict[str, str] = {}
        for allow in allows:
            for bound in bounds:
                own_elements = tuple(element for match in (allow, bound) if match for element in match.rule.elements)
                result = search((*elements, *own_elements), denies, self._call)
                name = allow.name if allow and allow.document else ""
                if result.answer and all(match is None or match.certain for match in (allow, bound)):
                    certain.setdefault(name, (*elements, *own_elements))
                elif result.answer is not False:
                    uncertain.setdefault(name, result.reason or "the resource of a statement is a policy variable")
        unread = self._own_rules.unread or (not beyond and self._boundary is not None and self._boundary.unread) or ""
        hidden = bool(unread) and not (direct and beyond) and search(elements, denies, self._call).answer is not False
        unread = unread or self._resource.unread
        if unread and (certain or uncertain or hidden):
            names, reason = (*certain, *uncertain), unread
        elif certain:
            # If several statements allow it, the one with the fewest conditions decides.
            conditions = min((describe_rule(each, denies, self._call) for each in certain.values()), key=len)
            return AccessPath(path, source_id, (), conditions, tuple(filter(None, certain)), needs_iam)
        elif uncertain:
            name, reason = next(iter(uncertain.items()))
            names = (name,)
        else:
            return None
        conditions, policies = describe_rule(elements, denies, self._call), tuple(filter(None, names))
        return AccessPath(path, source_id, (), conditions, policies, needs_iam, certain=False, reason=reason)

    def _fixed_values(self, elements: Iterable[Element]) -> dict[str, Value]:
        """The condition keys whose values are known for this identity and resource."""
        used = {key for element in elements for key in (element.key, *element.variables)}
        fixed: dict[str, Value] = {}
        identity, resource = self._identity, self._resource
        identity_tags = {name.lower(): value for name, value in identity.tags.items()}
        for key in used:
            if key.startswith("aws:principaltag/") and not identity.chooses_tags:
                fixed[key] = identity_tags.get(key.removeprefix("aws:principaltag/"))
            elif "resourcetag/" in key and resource.facts.tags is not None:
                resource_tags = {name.lower(): value for name, value in resource.facts.tags.items()}
                fixed[key] = resource_tags.get(key.partition("/")[2])
            elif resource.context and key.startswith("kms:" if resource.iam_sufficient else "kms:encryptioncontext:"):
                fixed[key] = None
        context = resource.context or {}
        version = "kms:encryptioncontext:secretversionid"
        fixed |= {key: value for key, value in context.items() if key in used and key != version}
        if context.get(version) == "*":
            fixed.pop(version, None)
        return fixed


def _encryption_context(context: Mapping[str, Value] | None) -> dict[str, str] | None:
    """The encryption context that every request carries, under the names that Secrets Manager uses."""
    if context is None:
        return None
    prefix, spellings = "kms:encryptioncontext:", {"secretarn": "SecretARN", "secretversionid": "SecretVersionId"}
    return {
        spellings.get(key.removeprefix(prefix), key.removeprefix(prefix)): value
        for key, value in context.items()
        if key.startswith(prefix) and isinstance(value, str)
    }


def operations_of(verdict: Verdict, wanted: Iterable[str]) -> tuple[str, ...]:
    """The operations of a verdict that are among the wanted ones."""
    requested = set(wanted)
    return tuple(operation for operation in verdict.operations if operation in requested)
