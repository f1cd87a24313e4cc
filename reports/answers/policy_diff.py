"""Compares two policies statement by statement (matched by Sid, or else by content), and each statement part by part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from models.hashing import canonical_json
from models.store.policy_canonical import canonical_policy
from reports.access.engine.policy_parser import Statement, parse
from reports.answers.change_event import Change, Detail

_ROOT = re.compile(r"arn:[a-z-]+:iam::(\d{12}):root")
_MIN_SIMILARITY = 3
"""How many of effect, principals, actions and conditions must be equal for two statements without a common Sid to match."""


@dataclass(frozen=True, slots=True)
class _PolicyStatement:
    statement: Statement
    raw: Any
    canonical: str
    """Equal for equivalent statements."""

    @property
    def name(self) -> str:
        return f"statement {self.statement.name}"


def policy_details(before: str, after: str) -> list[Detail]:
    """The differences between two policy texts as AWS returned them, in the order of their statements."""
    if before == after:
        return []
    old, new = _document(before), _document(after)
    if old is None or new is None:
        return [Detail("policy text", "changed", before, after)]
    names = sorted({*old, *new} - {"Statement"})
    details = [
        Detail(name, "changed", old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)
    ]
    return details + _diff_statements(_policy_statements(before, old), _policy_statements(after, new))


def summary(statement: Statement) -> str:
    """A statement on one line."""
    principals = ", ".join(map(_principal, _principals(statement).values())) or "nobody"
    principals = f"everyone except {principals}" if statement.principal_kind == "NotPrincipal" else principals
    actions = ", ".join(statement.actions) or "nothing"
    actions = f"everything except {actions}" if statement.not_actions else actions
    resources = "" if statement.resources == ("*",) else f" on {', '.join(statement.resources) or 'no resource'}"
    tests = [f"{test} {_value_list(values)}" for test, values in _conditions(statement).items()]
    conditions = f" if {' and '.join(tests)}" if tests else ""
    return f"{statement.effect or 'no effect'} {principals}: {actions}{resources}{conditions}"


def statement_details(text: str) -> list[Detail]:
    """One detail for each statement of a policy."""
    document = _document(text)
    if document is None:
        return [Detail("policy text", "stated", after=text)]
    return [_statement_detail(statement, "stated") for statement in _policy_statements(text, document)]


def _document(text: str) -> dict[str, Any] | None:
    try:
        document = orjson.loads(canonical_policy(text))
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) and isinstance(document.get("Statement"), list) else None


def _policy_statements(text: str, document: dict[str, Any]) -> list[_PolicyStatement]:
    pairs = zip(parse(text).statements, document["Statement"], strict=True)
    return [_PolicyStatement(statement, raw, canonical_json(raw)) for statement, raw in pairs]


def _diff_statements(old: list[_PolicyStatement], new: list[_PolicyStatement]) -> list[Detail]:
    same = Counter(each.canonical for each in old) & Counter(each.canonical for each in new)
    removed, added = _without(old, same), _without(new, same)
    if not removed and not added:
        reordered = [each.canonical for each in old] != [each.canonical for each in new]
        old_names, new_names = ([each.statement.name for each in statements] for statements in (old, new))
        return [Detail("order of the statements", "changed", old_names, new_names)] if reordered else []
    pairs = _match_statements(old, new, removed, added)
    matched = {id(before) for before, _ in pairs}
    details = [_statement_detail(each, "removed") for each in removed if id(each) not in matched]
    previous = {id(after): before for before, after in pairs}
    details += (
        _changed_statement(previous[id(each)], each) if id(each) in previous else _statement_detail(each, "added")
        for each in added
    )
    return details


def _without(statements: Iterable[_PolicyStatement], same: Counter[str]) -> list[_PolicyStatement]:
    remaining = same.copy()
    different = []
    for each in statements:
        if remaining[each.canonical]:
            remaining[each.canonical] -= 1
        else:
            different.append(each)
    return different


def _match_statements(
    old: list[_PolicyStatement],
    new: list[_PolicyStatement],
    removed: list[_PolicyStatement],
    added: list[_PolicyStatement],
) -> list[tuple[_PolicyStatement, _PolicyStatement]]:
    """Pairs of a removed and an added statement that are one changed statement."""
    sids = [Counter(each.statement.sid for each in statements if each.statement.sid) for statements in (old, new)]
    unique = {sid for sid in sids[0] if sids[0][sid] == 1 and sids[1][sid] == 1}
    by_sid = {each.statement.sid: each for each in removed if each.statement.sid in unique}
    pairs = [(by_sid[each.statement.sid], each) for each in added if each.statement.sid in by_sid]
    matched = {id(each) for pair in pairs for each in pair}
    candidates = [
        (_similarity(before.statement, after.statement), -removed_index, -added_index, before, after)
        for removed_index, before in enumerate(removed)
        for added_index, after in enumerate(added)
        if id(before) not in matched and id(after) not in matched
    ]
    for similarity, _, _, before, after in sorted(candidates, key=lambda candidate: candidate[:3], reverse=True):
        if similarity >= _MIN_SIMILARITY and id(before) not in matched and id(after) not in matched:
            pairs.append((before, after))
            matched |= {id(before), id(after)}
    return pairs


def _similarity(old: Statement, new: Statement) -> int:
    return sum(
        (
            old.effect == new.effect,
            (old.principal_kind, _principals(old).keys()) == (new.principal_kind, _principals(new).keys()),
            (old.not_actions, _actions(old).keys()) == (new.not_actions, _actions(new).keys()),
            _conditions(old) == _conditions(new),
        )
    )


def _statement_detail(each: _PolicyStatement, change: Change) -> Detail:
    text = summary(each.statement) if each.statement.readable else None
    removed = change == "removed"
    return Detail(each.name, change, each.raw if removed else None, None if removed else each.raw, text=text)


def _changed_statement(old: _PolicyStatement, new: _PolicyStatement) -> Detail:
    before, after = old.statement, new.statement
    elements = (
        ("Sid", before.sid, after.sid),
        ("effect", before.effect, after.effect),
        ("principal element", before.principal_kind, after.principal_kind),
        ("action element", *(("NotAction" if each.not_actions else "Action") for each in (before, after))),
    )
    parts = [Detail(name, "changed", *values) for name, *values in elements if values[0] != values[1]]
    parts += _parts("principal", _principals(before), _principals(after))
    parts += _parts("action", _actions(before), _actions(after))
    parts += _parts("resource", *({each: each for each in statement.resources} for statement in (before, after)))
    old_tests, new_tests = _conditions(before), _conditions(after)
    for test in sorted({*old_tests, *new_tests}):
        old_values, new_values = old_tests.get(test), new_tests.get(test)
        if old_values != new_values:
            change: Change = "removed" if new_values is None else "added" if old_values is None else "changed"
            parts.append(Detail(f"condition {test}", change, old_values, new_values))
    if not parts or not (before.readable and after.readable):
        parts = [Detail("text", "changed", old.canonical, new.canonical)]
    return Detail(new.name, "changed", old.raw, new.raw, tuple(parts))


def _parts(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Detail]:
    removed = [Detail(name, "removed", before=old[part]) for part in sorted(old.keys() - new.keys())]
    return removed + [Detail(name, "added", after=new[part]) for part in sorted(new.keys() - old.keys())]


def _principals(statement: Statement) -> dict[str, str]:
    """The principals by their normal form, in which an account ID and its root ARN are equal."""
    principals = {}
    for named in statement.principals:
        root = _ROOT.fullmatch(named.value) if named.kind == "AWS" else None
        principals[f"{named.kind} {root[1] if root else named.value}"] = (
            named.value if named.kind == "AWS" else f"{named.kind} {named.value}"
        )
    return principals


def _principal(written: str) -> str:
    return "everyone" if written == "*" else written


def _actions(statement: Statement) -> dict[str, str]:
    return {action.lower(): action for action in statement.actions}


def _conditions(statement: Statement) -> dict[str, list[str]]:
    """Operator and condition key to the values."""
    return {
        f"{operator} {key}": sorted(
            item if isinstance(item, str) else canonical_json(item)
            for item in (raw if isinstance(raw, list) else [raw])
        )
        for operator, block in statement.conditions.items()
        if isinstance(block, Mapping)
        for key, raw in block.items()
    }


def _value_list(values: list[str]) -> str:
    return f"= {values[0]}" if len(values) == 1 else f"in ({', '.join(values)})"
