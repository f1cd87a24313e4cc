"""One concrete question to a key policy, and which paths give someone an operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reports.access.engine.condition_keys import Source, source
from reports.access.engine.conditions import Value
from reports.access.engine.context_values import INSIDE_NETWORKS
from reports.access.engine.kms_actions import BY_POLICY_MASK, CROSS_ACCOUNT_MASK, bit, supported
from reports.access.engine.model import Access, Decision, Effect, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import Judge
from reports.access.engine.policy_parser import Named, Policy
from reports.access.engine.principals import Principal, classify
from reports.access.engine.request_principals import Caller, caller_named
from reports.access.engine.solver import Call, Found, Rule, search

_CHOSEN = frozenset({Source.REQUEST, Source.SERVICE, Source.NETWORK, Source.DEPUTY})
_FALSE_WHEN_NOT_GIVEN = frozenset({"aws:viaawsservice", "kms:grantisforawsresource"})


def allowed(  # noqa: PLR0917 - the six words of one question, in the order in which it is asked
    policy: Policy,
    key_facts: KeyFacts,
    organization: Organization,
    caller: str,
    operation: str,
    context: Mapping[str, str | tuple[str, ...]] | None = None,
) -> Decision:
    """Whether the key policy lets a caller do one operation.

    ``caller`` is an ARN, an account id (any principal of the account), a service name or a unique id; ``operation`` like
    ``kms:Decrypt``. With a context, the call carries these condition keys and no others that a caller chooses; without one,
    any context within the caller's reach counts. Grants and IAM policies are not asked: see ``needs_iam``.
    """
    who = caller_named(caller, key_facts.account, organization.accounts)
    one = bit(operation)
    if who is None:
        return Decision(Effect.UNKNOWN, reason=f"{caller} is no principal that is known here")
    if not one:
        return Decision(Effect.UNKNOWN, reason=f"{operation} is no action that is known here")
    if operation.lower() == "kms:retiregrant":
        return Decision(Effect.UNKNOWN, reason="who can retire a grant is said by the grant, not by the key policy")
    if refused := _refused(one, operation, who, key_facts):
        return Decision(Effect.DENY, reason=refused)
    judge = Judge(policy, key_facts, organization)
    fixed = None if context is None else _fixed(judge, context)
    return _decided(judge, policy, key_facts.account, who, one=one, fixed=fixed)


def _refused(one: int, operation: str, who: Caller, facts: KeyFacts) -> str:
    if not one & BY_POLICY_MASK:
        return f"{operation} acts on no key"
    if who.account not in (None, facts.account) and not one & CROSS_ACCOUNT_MASK:
        return f"{operation} does not work from another account"
    if not one & supported(facts.key_spec, facts.key_usage):
        return f"{operation} does not work with a key of this kind"
    return ""


def _fixed(judge: Judge, context: Mapping[str, str | tuple[str, ...]]) -> dict[str, Value]:
    fixed: dict[str, Value] = {}
    for rule in judge.rules:
        for element in rule.elements:
            for key in (element.key, *element.variables):
                if source(key) in _CHOSEN:
                    fixed[key] = "false" if key in _FALSE_WHEN_NOT_GIVEN else None
    return fixed | {key.lower(): value for key, value in context.items()}


def _decided(
    judge: Judge, policy: Policy, owner: str, who: Caller, *, one: int, fixed: Mapping[str, Value] | None
) -> Decision:
    against = [
        (rule, about)
        for rule in judge.denies
        if rule.operations & one and (about := rule.audience.includes(who)) is not False
    ]

    def tried(rule: Rule, denies: Iterable[tuple[Rule, bool | None]]) -> Found:
        return search(rule.elements, denies, Call(judge.reach, who, one, INSIDE_NETWORKS, fixed))

    unsure, stopped = Decision(Effect.DENY, reason="no statement allows it"), None
    allows = [rule for rule in judge.rules if rule.allow and rule.about_key and rule.operations & one]
    mine = [rule for rule in allows if _meant(rule, who)]
    for rule in sorted(mine, key=lambda rule: not rule.audience.directly(who)):
        found = tried(rule, against)
        iam = who.account != owner or not rule.audience.directly(who)
        place = rule.statement.position
        if found.answer and policy.readable:
            return Decision(Effect.ALLOW, rule.name, place, iam, context=found.context)
        if found.answer is not False:
            reason = found.reason or "a statement of the policy cannot be read"
            unsure = Decision(Effect.UNKNOWN, rule.name, place, iam, reason)
        elif stopped is None and tried(rule, ()).answer:
            stopped = next((deny for deny, about in against if not tried(rule, [(deny, about)]).answer), None)
    if unsure.effect is Effect.UNKNOWN:
        return unsure
    if stopped is not None:
        return Decision(Effect.DENY, stopped.name, stopped.statement.position, reason="a Deny stops it")
    if not policy.readable:
        return Decision(Effect.UNKNOWN, reason="a statement of the policy cannot be read")
    return unsure


def _meant(rule: Rule, who: Caller) -> bool:
    return not rule.audience.leaves_out(who) if rule.audience.inverted else bool(rule.audience.includes(who))


def paths_of(
    verdicts: Iterable[Verdict], principal: str, operation: str, organization: Organization | None = None
) -> tuple[Verdict, ...]:
    """Every path that gives a principal an operation: without one of them, the others remain.

    ``principal`` is written as in policies; an account (root or bare id) stands for everyone in it. Paths of everyone count
    for everybody, paths of the organization for accounts of the organization, paths of an account for its principals.
    """
    asked = classify(Named("AWS", principal))
    name = operation.lower() if ":" in operation else f"kms:{operation.lower()}"
    return tuple(
        verdict
        for verdict in verdicts
        if any(one.lower() == name for one in verdict.operations) and _gives(verdict, asked, organization)
    )


def _gives(verdict: Verdict, found: Principal, organization: Organization | None) -> bool:
    written = found.written
    if verdict.principal == written and written != "*":
        return True
    if verdict.access is Access.DELETED:
        return False
    if verdict.access in (Access.PUBLIC, Access.PUBLIC_VIA_SERVICE):
        return found.type not in {"service", "deleted", "unknown"}
    if written == "*":
        return verdict.principal == "*" and verdict.account is None
    if found.account is None:
        return False
    if verdict.account == found.account:
        holder = classify(Named("AWS", verdict.principal))
        return found.type == "account" or holder.type in {"account", "public"} or _role_of(written) == verdict.principal
    if verdict.principal == "*" and verdict.access is Access.EXTERNAL and verdict.account is None:
        return (
            organization is None or found.account not in organization.accounts
        )  # from a network or an organization of theirs
    if verdict.access is Access.ORGANIZATION and verdict.account is None:
        return organization is not None and found.account in organization.accounts
    return False


def _role_of(session: str) -> str:
    """The ARN of a session's role, when the role has no path."""
    head, found, rest = session.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}" if found else session
