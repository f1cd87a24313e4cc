"""Evaluate one request against a key policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reports.access.engine.condition_keys import Source, condition_key
from reports.access.engine.conditions import Value
from reports.access.engine.context_values import INSIDE_NETWORKS
from reports.access.engine.kms_actions import BY_POLICY_MASK, CROSS_ACCOUNT_MASK, bit, supported
from reports.access.engine.model import Decision, Effect, KeyFacts, Organization
from reports.access.engine.policy_analysis import PolicyAnalyzer
from reports.access.engine.policy_parser import Policy
from reports.access.engine.request_principals import Caller, parse_caller
from reports.access.engine.solver import Call, denies_of, search

_CALLER_CONTROLLED = frozenset({Source.REQUEST, Source.SERVICE, Source.NETWORK, Source.DEPUTY})
_FALSE_BY_DEFAULT = frozenset({"aws:viaawsservice", "kms:grantisforawsresource"})
_UNREADABLE = "a statement of the policy could not be parsed"


def allowed(  # noqa: PLR0917 - the six parts of a request, in their natural order
    policy: Policy,
    key_facts: KeyFacts,
    organization: Organization,
    caller: str,
    operation: str,
    context: Mapping[str, str | tuple[str, ...]] | None = None,
    *,
    has_boundary: bool = False,
) -> Decision:
    """Return whether the key policy allows a caller one operation.

    ``caller`` is an ARN, an account id (any principal of the account), a service name or a unique id; ``operation`` is like
    ``kms:Decrypt``. With a context, the request carries these condition keys and no others that a caller controls; without
    one, any possible context counts. ``has_boundary`` says that the caller has a permissions boundary, which is itself not
    evaluated. Grants and IAM policies are not evaluated: see ``needs_iam``.
    """
    parsed_caller = parse_caller(caller, key_facts.arn, organization.accounts)
    mask = bit(operation)
    if parsed_caller is None:
        return Decision(Effect.UNKNOWN, reason=f"{caller} is not a known type of principal")
    if not mask:
        return Decision(Effect.UNKNOWN, reason=f"{operation} is not a known KMS action")
    if operation.lower() == "kms:retiregrant":
        return Decision(Effect.UNKNOWN, reason="the grant, not the key policy, determines who can retire it")
    parsed_caller = replace(parsed_caller, has_boundary=has_boundary)
    if reason := _unsupported(mask, operation, parsed_caller, key_facts):
        return Decision(Effect.DENY, reason=reason)
    analyzer = PolicyAnalyzer(policy, key_facts, organization)
    fixed = None if context is None else _fixed_values(analyzer, context)
    call = Call(analyzer.candidates, parsed_caller, mask, INSIDE_NETWORKS, fixed)
    return _decide(analyzer, policy, key_facts.account, call)


def _unsupported(mask: int, operation: str, caller: Caller, facts: KeyFacts) -> str:
    if not mask & BY_POLICY_MASK:
        return f"{operation} does not act on a key"
    if caller.account not in (None, facts.account) and not mask & CROSS_ACCOUNT_MASK:
        return f"{operation} does not work across accounts"
    if not mask & supported(facts.key_spec, facts.key_usage):
        return f"{operation} does not support the key's spec or usage"
    return ""


def _fixed_values(analyzer: PolicyAnalyzer, context: Mapping[str, str | tuple[str, ...]]) -> dict[str, Value]:
    tested = {key for rule in analyzer.rules for element in rule.elements for key in element.keys}
    controlled = (key for key in tested if condition_key(key).source in _CALLER_CONTROLLED)
    fixed: dict[str, Value] = {key: "false" if key in _FALSE_BY_DEFAULT else None for key in controlled}
    return fixed | {key.lower(): value for key, value in context.items()}


def _decide(analyzer: PolicyAnalyzer, policy: Policy, owner: str, call: Call) -> Decision:
    caller, operation = call.caller, call.operation
    denies = denies_of(analyzer.denies, caller, operation)
    decision, denied_by = Decision(Effect.DENY, reason="no statement allows it"), None
    allows = [
        rule
        for rule in analyzer.rules
        if rule.allow and rule.about_key and rule.operations & operation and rule.audience.allows(caller)
    ]
    for rule in sorted(allows, key=lambda rule: not rule.audience.directly(caller)):
        result = search(rule.elements, denies, call)
        needs_iam = caller.account != owner or not rule.audience.directly(caller)
        position = rule.statement.position
        if result.answer and policy.readable:
            return Decision(Effect.ALLOW, rule.name, position, needs_iam, context=result.context)
        if result.answer is not False:
            decision = Decision(Effect.UNKNOWN, rule.name, position, needs_iam, result.reason or _UNREADABLE)
        elif denied_by is None and search(rule.elements, (), call).answer:
            denied_by = next((deny[0] for deny in denies if not search(rule.elements, [deny], call).answer), None)
    if decision.effect is Effect.UNKNOWN:
        return decision
    if denied_by is not None:
        return Decision(Effect.DENY, denied_by.name, denied_by.statement.position, reason="an explicit Deny applies")
    if not policy.readable:
        return Decision(Effect.UNKNOWN, reason=_UNREADABLE)
    return decision
