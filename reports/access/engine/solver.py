"""The search for a witness: one context in which an Allow holds and no Deny does.

Contexts are tried key by key, and a branch is left as soon as the Allow fails or a Deny holds. What cannot be known (an
unknown operator or key, a tag that was not crawled) is carried along: without a certain witness it makes the answer unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.access.engine.condition_keys import carried_by
from reports.access.engine.conditions import (
    UNKNOWN,
    Context,
    Element,
    Value,
    judge,
    judge_all,
    read,
    resolved,
    why_unknown,
)
from reports.access.engine.context_values import Reach, first_name
from reports.access.engine.kms_actions import BY_POLICY_MASK, bit, matching
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.request_principals import Audience, Caller, audience
from reports.access.engine.wildcards import matches

_BUDGET = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A statement that can be judged."""

    statement: Statement
    allow: bool
    operations: int
    """Those of its actions that a key policy decides."""
    audience: Audience
    elements: tuple[Element, ...]
    about_key: bool
    """Its Resource is this key."""

    @property
    def name(self) -> str:
        """Its Sid or position."""
        return self.statement.name


def rules_of(policy: Policy, arn: str) -> tuple[Rule, ...]:
    """The readable statements of a policy on one key."""
    return tuple(
        Rule(
            statement,
            statement.effect == "Allow",
            matching(statement.actions, negated=statement.not_actions) & BY_POLICY_MASK if statement.actions else 0,
            audience(statement),
            read(statement.conditions, policy.version),
            any(one == "*" or matches(one, arn) for one in statement.resources),
        )
        for statement in policy.statements
        if statement.readable
    )


@dataclass(frozen=True, slots=True)
class Found:
    """``answer`` is None when it cannot be known, for the given reason."""

    answer: bool | None
    context: Mapping[str, str | tuple[str, ...]]
    reason: str = ""


_NOBODY = Found(answer=False, context={})
_ANYBODY = Found(answer=True, context={})


def shown(context: Mapping[str, Value]) -> dict[str, str | tuple[str, ...]]:
    """The keys that the request carries."""
    return {key: value for key, value in context.items() if value is not None and value is not UNKNOWN}


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls what, how far the search for a context goes, and the values that are given."""

    reach: Reach
    caller: Caller
    operation: int
    level: int
    fixed: Mapping[str, Value] | None = None

    def values(self, key: str) -> tuple[Value, ...]:
        """The values to try for a condition key."""
        if self.fixed is not None and key in self.fixed:
            return (self.fixed[key],)
        return self.reach.values(key, self.caller, self.operation, self.level)


def search(allow: tuple[Element, ...], denies: Iterable[tuple[Rule, bool | None]], call: Call) -> Found:
    """Look for a context of the caller's in which ``allow`` holds and none of the denies.

    A deny comes with whether it is about the caller at all (None for unknown).
    """
    against = [(rule.elements, about) for rule, about in denies]
    if not allow and not against:
        return _ANYBODY
    if any(not elements and about for elements, about in against):
        return _NOBODY
    order = _order((allow, *(elements for elements, _ in against)))
    last = {key: index for index, key in enumerate(order)}
    due: list[list[Element]] = [[] for _ in range(len(order) + 1)]
    for element in allow:
        due[_ready(element, last)].append(element)
    stops: list[list[tuple[tuple[Element, ...], bool | None]]] = [[] for _ in range(len(order) + 1)]
    for elements, about in against:
        stops[max((_ready(element, last) for element in elements), default=0)].append((elements, about))
    referring = {key: [e for e in _all(allow, against) if e.key == key and e.variables] for key in order}
    context: Context = {}
    maybe: list[Found] = []
    budget = _BUDGET

    def step(index: int, unsure: str) -> Found | None:
        nonlocal budget
        budget -= 1
        for element in due[index]:
            answer = judge(element, context)
            if answer is False:
                return None
            if answer is None:
                unsure = unsure or why_unknown((element,), context)
        for elements, about in stops[index]:
            answer = judge_all(elements, context)
            if answer and about:
                return None
            if answer is not False:
                unsure = unsure or (
                    "whether NotPrincipal leaves out the sessions of a role is not known"
                    if about is None
                    else why_unknown(elements, context)
                )
        if index == len(order):
            ended = Found(not unsure or None, shown(context), unsure)
            if ended.answer is None:
                maybe.append(ended)
                return None
            return ended
        key = order[index]
        values = call.values(key)
        for element in referring[key]:
            wanted = resolved(element, context)
            if isinstance(wanted, tuple) and not (call.fixed and key in call.fixed) and values != (None,):
                values = call.reach.added(key, wanted, values)
        for value in values:
            if budget < 0 or (unsure and maybe):
                break
            context[key] = value
            if (found := step(index + 1, unsure)) is not None:
                return found
        context.pop(key, None)
        return None

    certain = step(0, "")
    if certain is not None:
        return certain
    if maybe:
        return maybe[0]
    if budget < 0 or any(map(call.reach.incomplete, order)):
        return Found(answer=None, context={}, reason="the conditions are too many to try them all")
    return _NOBODY


def _all(allow: tuple[Element, ...], against: list[tuple[tuple[Element, ...], bool | None]]) -> Iterable[Element]:
    yield from allow
    for elements, _ in against:
        yield from elements


def _order(groups: Iterable[tuple[Element, ...]]) -> list[str]:
    """The keys to decide on, those that values refer to before those whose values refer to them."""
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
    """After how many decisions an element can be judged."""
    if element.unreadable:
        return 0
    return 1 + max(last[key] for key in (element.key, *element.variables))


def groups(operations: int, denies: Iterable[Rule], elements: tuple[Element, ...]) -> list[int]:
    """Operations split into sets whose members are treated alike."""
    found = [operations]
    cuts = {carried_by(key) for element in elements for key in (element.key, *element.variables)}
    for rule in denies:
        cuts.add(rule.operations)
        cuts.update(carried_by(key) for element in rule.elements for key in (element.key, *element.variables))
    for cut in cuts:
        if operations & ~cut and operations & cut:
            found = [part for one in found for part in (one & cut, one & ~cut) if part]
    return found


def representative(operations: int) -> tuple[str, int]:
    """The operation that is tried for a group: its name and bit."""
    name = first_name(operations)
    return name, bit(name)


def narrows(element: Element, call: Call) -> bool:
    """Whether the caller can be in a context in which the element does not hold."""
    return any(judge(element, context) is not True for context in _contexts(element, call))


def possible(element: Element, call: Call) -> bool:
    """Whether the caller can be in a context in which the element holds."""
    return any(judge(element, context) is not False for context in _contexts(element, call))


def _contexts(element: Element, call: Call) -> Iterable[Context]:
    if element.unreadable:
        yield {}
        return
    given = {key: values[0] for key in element.variables if len(values := call.values(key)) == 1}
    for value in call.values(element.key):
        yield {**given, element.key: value}
