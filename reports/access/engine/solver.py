"""The search for a witness: a request context in which an Allow holds and no Deny does.

The search assigns values key by key and prunes a branch as soon as the Allow fails or a Deny holds. Unknowns (an unknown
operator or key, a tag that was not crawled) are carried along: without a certain witness, they make the result unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.access.engine.condition_keys import condition_key
from reports.access.engine.condition_text import describe_conditions
from reports.access.engine.conditions import (
    UNKNOWN,
    Context,
    Element,
    Value,
    evaluate,
    evaluate_all,
    read,
    resolve_variables,
    unknown_reason,
    variable_values,
)
from reports.access.engine.context_values import CandidateContext
from reports.access.engine.identities import CALLER_KEYS, Identity, conditions_on_caller
from reports.access.engine.kms_actions import BY_POLICY_MASK, matching
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.request_principals import Applies, Audience, Caller, Origin, audience
from reports.access.engine.wildcards import complete_arn, matches

_BUDGET = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A statement that can be evaluated."""

    statement: Statement
    allow: bool
    operations: int
    """The operations among its actions that a key policy controls."""
    audience: Audience
    elements: tuple[Element, ...]
    about_key: bool
    """Whether its Resource includes the key."""

    @property
    def name(self) -> str:
        """The Sid or position of the statement."""
        return self.statement.name


def rules_of(policy: Policy, arn: str) -> tuple[Rule, ...]:
    """Return the readable statements of a policy as rules on one key."""
    return tuple(
        Rule(
            statement,
            statement.effect == "Allow",
            matching(statement.actions, negated=statement.not_actions) & BY_POLICY_MASK if statement.actions else 0,
            audience(statement),
            read(statement.conditions, policy.version),
            any(resource == "*" or matches(complete_arn(resource), arn) for resource in statement.resources),
        )
        for statement in policy.statements
        if statement.readable
    )


Denies = Sequence[tuple[Rule, Applies]]
"""Deny rules, each with whether it applies to the caller."""


def denies_of(rules: Iterable[Rule], caller: Caller, operations: int) -> Denies:
    """Return the Deny rules on the key that may apply to a caller and to some of the operations."""
    return [
        (rule, applies)
        for rule in rules
        if not rule.allow
        and rule.about_key
        and rule.operations & operations
        and (applies := rule.audience.applies_to(caller)) is not False
    ]


def elements_of(allow: Iterable[Element], denies: Denies) -> list[Element]:
    """Return the conditions of an Allow and of Deny rules."""
    return [*allow, *(element for rule, _ in denies for element in rule.elements)]


def denied_to_everyone(rules: Iterable[Rule]) -> int:
    """Return the operations that a Deny without conditions removes from everyone, identified or not."""
    denied = 0
    for rule in rules:
        if (
            not rule.allow
            and rule.about_key
            and rule.audience.everyone
            and not rule.audience.inverted
            and not rule.elements
        ):
            denied |= rule.operations
    return denied


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search; ``answer`` is None for unknown, with the reason."""

    answer: bool | None
    context: Mapping[str, str | tuple[str, ...]]
    reason: str = ""
    identity: Identity | None = None


_GRANTED = SearchResult(answer=True, context={})
_DENIED = SearchResult(answer=False, context={})
_TOO_MANY = SearchResult(answer=None, context={}, reason="too many condition values to try all combinations")
_VARIABLES = SearchResult(answer=None, context={}, reason="a condition compares the caller with a policy variable")


def witness_context(context: Mapping[str, Value]) -> dict[str, str | tuple[str, ...]]:
    """Return the keys that the request carries, with their values."""
    return {key: value for key, value in context.items() if value is not None and value is not UNKNOWN}


@dataclass(frozen=True, slots=True)
class Call:
    """A caller and an operation, the level of the search, and fixed values of the context."""

    candidates: CandidateContext
    caller: Caller
    operation: int
    level: int
    fixed: Mapping[str, Value] | None = None

    def values(self, key: str) -> tuple[Value, ...]:
        """Return the values to try for a condition key that does not say who the caller is."""
        if self.fixed is not None and key in self.fixed:
            return (self.fixed[key],)
        return self.candidates.values(key, self.caller, self.operation, self.level)

    def identities(self, elements: Iterable[Element], audiences: Iterable[Audience]) -> tuple[Sequence[Identity], bool]:
        """Return an identity for each combination of the conditions on the caller, and whether these are all."""
        conditions = conditions_on_caller(elements, audiences, self.candidates.constants)
        identities = self.candidates.identities.of(self.caller, conditions)
        if identities is None:
            return (), False
        fixed = {key: value for key, value in (self.fixed or {}).items() if key in CALLER_KEYS}
        if fixed:
            identities = tuple(replace(identity, values=identity.values | fixed) for identity in identities)
        return identities, conditions.complete


Against = tuple[tuple[tuple[Element, ...], bool | None], ...]
"""The conditions of Deny rules, each with whether it applies to the caller."""


def search(allow: tuple[Element, ...], denies: Denies, call: Call) -> SearchResult:
    """Search for a request of the caller in which ``allow`` holds and none of the denies."""
    return next(iter(search_all(allow, denies, call)))


def search_all(allow: tuple[Element, ...], denies: Denies, call: Call) -> Iterator[SearchResult]:
    """Yield a result for each identity that succeeds, special ones last, then one that is unknown; without any, the denial."""
    if not allow and not denies and call.caller.origin is not Origin.STRANGER:
        yield _GRANTED
        return
    elements = elements_of(allow, denies)
    keys = {key for each in elements if not each.unreadable for key in each.keys if key in CALLER_KEYS}
    audiences = [applies for _, applies in denies if isinstance(applies, Audience)]
    certain = [(rule.elements, applies) for rule, applies in denies if not isinstance(applies, Audience)]
    if (
        not keys and not audiences and call.caller.origin is not Origin.STRANGER
    ):  # all identities of the caller are alike
        remaining = _remaining(allow, certain, {})
        yield _search_context(*remaining, call, {}) if remaining else _DENIED
        return
    identities, complete = call.identities(elements, audiences)
    known: dict[tuple[object, ...], SearchResult] = {}
    uncertain: SearchResult | None = None
    succeeded = False
    for identity in identities:
        against = [
            (rule.elements, applies.includes(identity.caller) if isinstance(applies, Audience) else applies)
            for rule, applies in denies
        ]
        remaining = _remaining(allow, against, identity.values)
        if remaining is None:
            continue
        context = {key: identity.values[key] for key in keys}
        relevant = {key: context[key] for element in _all(*remaining) for key in element.keys if key in keys}
        cache_key = (remaining, tuple(relevant.values()))
        result = known.get(cache_key)
        if result is None:
            result = known[cache_key] = _search_context(*remaining, call, relevant)
        if result.answer:
            succeeded = True
            yield replace(result, context={**witness_context(context), **result.context}, identity=identity)
        elif result.answer is None:
            uncertain = uncertain or replace(result, identity=identity)
    if uncertain or not succeeded:
        yield uncertain or (_DENIED if complete else _VARIABLES if identities else _TOO_MANY)


def _remaining(
    allow: tuple[Element, ...], against: Iterable[tuple[tuple[Element, ...], bool | None]], values: Context
) -> tuple[tuple[Element, ...], Against] | None:
    """Return what an identity leaves to decide; None if its Allow fails or a Deny holds for any request."""
    left = _undecided(allow, values)
    if left is None:
        return None
    denies: dict[tuple[tuple[Element, ...], bool | None], None] = {}
    for elements, applies in against:
        if applies is False or (undecided := _undecided(elements, values)) is None:
            continue
        if applies and not undecided:
            return None
        denies[undecided, applies] = None
    return left, tuple(denies)


def _undecided(elements: tuple[Element, ...], values: Context) -> tuple[Element, ...] | None:
    """Return the elements that the caller does not decide; None if one does not hold."""
    undecided = []
    for element in elements:
        decisive = element.key in CALLER_KEYS and CALLER_KEYS.issuperset(element.variables)
        holds = evaluate(element, values) if decisive else None
        if holds is False:
            return None
        if holds is None:
            undecided.append(element)
    return tuple(undecided)


def _search_context(allow: tuple[Element, ...], against: Against, call: Call, caller: Context) -> SearchResult:
    """Search for a context of one identity, of which ``caller`` are the relevant keys."""
    if not allow and not against:
        return _GRANTED
    order = _order((allow, *(elements for elements, _ in against)))
    last = {key: index for index, key in enumerate(order)}
    constants = call.candidates.constants | caller
    allow_checks: list[list[Element]] = [[] for _ in range(len(order) + 1)]
    for element in allow:
        allow_checks[_ready(element, last)].append(element)
    deny_checks: list[list[tuple[tuple[Element, ...], bool | None]]] = [[] for _ in range(len(order) + 1)]
    for elements, applies in against:
        deny_checks[max((_ready(element, last) for element in elements), default=0)].append((elements, applies))
    referring = {key: [e for e in _all(allow, against) if e.key == key and e.variables] for key in order}
    referred = {key: [e for e in _all(allow, against) if key in e.variables and e.key in constants] for key in order}
    context: Context = {}
    uncertain: list[SearchResult] = []
    budget = _BUDGET

    def step(index: int, reason: str) -> SearchResult | None:
        nonlocal budget
        budget -= 1
        for element in allow_checks[index]:
            answer = evaluate(element, context)
            if answer is False:
                return None
            if answer is None:
                reason = reason or unknown_reason((element,), context)
        for elements, applies in deny_checks[index]:
            answer = evaluate_all(elements, context)
            if answer and applies:
                return None
            if answer is not False:
                reason = reason or (
                    "whether NotPrincipal excludes the sessions of a role is unknown"
                    if applies is None
                    else unknown_reason(elements, context)
                )
        if index == len(order):
            result = SearchResult(not reason or None, witness_context(context), reason)
            if result.answer is None:
                uncertain.append(result)
                return None
            return result
        key = order[index]
        values = (caller[key],) if key in caller else call.values(key)
        for element in referring[key]:
            resolved = resolve_variables(element, context)
            if isinstance(resolved, tuple) and not (call.fixed and key in call.fixed) and values != (None,):
                values = call.candidates.with_resolved(key, resolved, values)
        for element in referred[key] if values != (None,) else ():
            values = call.candidates.with_resolved(key, variable_values(element, key, constants), values)
        for value in values:
            if budget < 0 or (reason and uncertain):
                break
            context[key] = value
            if (success := step(index + 1, reason)) is not None:
                return success
        context.pop(key, None)
        return None

    certain = step(0, "")
    if certain is not None:
        return certain
    if uncertain:
        return uncertain[0]
    if budget < 0 or any(map(call.candidates.is_incomplete, order)):
        return _TOO_MANY
    return _DENIED


def _all(allow: tuple[Element, ...], against: Against) -> Iterator[Element]:
    yield from allow
    for elements, _ in against:
        yield from elements


def _order(groups: Iterable[tuple[Element, ...]]) -> list[str]:
    """Return the keys in the order of the search: a key comes after the keys that its values refer to."""
    keys: dict[str, None] = {}
    later: dict[str, None] = {}
    for elements in groups:
        for element in elements:
            if element.unreadable:
                continue
            keys.update(dict.fromkeys(element.variables))
            (later if element.variables else keys)[element.key] = None
    return [*keys, *(key for key in later if key not in keys)]


def _ready(element: Element, last: dict[str, int]) -> int:
    """Return the number of keys that must have a value before an element can be evaluated."""
    if element.unreadable:
        return 0
    return 1 + max(last[key] for key in element.keys)


def groups(operations: int, denies: Iterable[Rule], elements: tuple[Element, ...]) -> list[int]:
    """Split operations into groups that the rules treat alike."""
    parts = [operations]
    cuts = {condition_key(key).operations for element in elements for key in element.keys}
    for rule in denies:
        cuts.add(rule.operations)
        cuts.update(condition_key(key).operations for element in rule.elements for key in element.keys)
    for cut in cuts:
        if operations & ~cut and operations & cut:
            parts = [piece for part in parts for piece in (part & cut, part & ~cut) if piece]
    return parts


def restricts(element: Element, call: Call) -> bool:
    """Whether the element fails in some context of the caller."""
    return any(evaluate(element, context) is not True for context in _contexts(element, call))


def is_feasible(element: Element, call: Call) -> bool:
    """Whether the element holds in some context of the caller."""
    return any(evaluate(element, context) is not False for context in _contexts(element, call))


def describe_rule(elements: Iterable[Element], denies: Denies, call: Call) -> str:
    """Describe what restricts the caller: the conditions of an Allow, and the Deny rules that may apply."""
    restrictions = [element for element in elements if restricts(element, call)]
    exceptions = [
        (deny.name, [element for element in deny.elements if restricts(element, call)])
        for deny, applies in denies
        if deny.elements
        and not (isinstance(applies, Audience) and not applies.inverted)
        and all(is_feasible(element, call) for element in deny.elements)
    ]
    return describe_conditions(restrictions, exceptions)


def _contexts(element: Element, call: Call) -> Iterable[Context]:
    if element.unreadable:
        yield {}
        return
    if CALLER_KEYS.isdisjoint(element.keys):
        callers: Sequence[Context] = ({},)
    else:
        identities, complete = call.identities((element,), ())
        callers = [identity.values for identity in identities]
        if not complete:
            yield {}
    for caller in callers:
        fixed = {
            key: values[0] for key in element.variables if key not in caller and len(values := call.values(key)) == 1
        }
        for value in (caller[element.key],) if element.key in caller else call.values(element.key):
            yield {**caller, **fixed, element.key: value}
