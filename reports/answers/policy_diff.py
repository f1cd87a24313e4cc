"""Two policies compared statement by statement: by Sid, else by content, and within a statement part by part."""

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
from reports.mart.change_event import Detail

_ROOT = re.compile(r"arn:[a-z-]+:iam::(\d{12}):root")
_ALIKE = 3
"""Of effect, principals, actions and conditions so many must be equal for two statements without a Sid to be one."""


@dataclass(frozen=True, slots=True)
class _Written:
    statement: Statement
    raw: Any
    canonical: str
    """Equal for statements that mean the same."""

    @property
    def name(self) -> str:
        return f"statement {self.statement.name}"


def policy_details(before: str, after: str) -> list[Detail]:
    """What changed between two policy texts as AWS returned them; statements keep the order of the policies."""
    if before == after:
        return []
    old, new = _document(before), _document(after)
    if old is None or new is None:
        return [Detail("policy text", "changed", before, after)]
    others = sorted({*old, *new} - {"Statement"})
    found = [Detail(name, "changed", old.get(name), new.get(name)) for name in others if old.get(name) != new.get(name)]
    return found + _statements(_written(before, old), _written(after, new))


def summary(statement: Statement) -> str:
    """A statement on one line."""
    who = ", ".join(_principal(one) for one in _principals(statement).values()) or "nobody"
    who = f"everyone but {who}" if statement.principal_kind == "NotPrincipal" else who
    what = ", ".join(statement.actions) or "nothing"
    what = f"everything but {what}" if statement.not_actions else what
    where = "" if statement.resources == ("*",) else f" on {', '.join(statement.resources) or 'no resource'}"
    tests = [f"{test} {_listed(wanted)}" for test, wanted in _conditions(statement).items()]
    return f"{statement.effect or 'no effect'} {who}: {what}{where}{' if ' if tests else ''}{' and '.join(tests)}"


def described(text: str) -> list[Detail]:
    """A policy's statements, one detail each."""
    document = _document(text)
    if document is None:
        return [Detail("policy text", "stated", after=text)]
    return [_one(written, "stated") for written in _written(text, document)]


def _document(text: str) -> dict[str, Any] | None:
    try:
        document = orjson.loads(canonical_policy(text))
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) and isinstance(document.get("Statement"), list) else None


def _written(text: str, document: dict[str, Any]) -> list[_Written]:
    statements = parse(text).statements
    return [_Written(one, raw, canonical_json(raw)) for one, raw in zip(statements, document["Statement"], strict=True)]


def _statements(old: list[_Written], new: list[_Written]) -> list[Detail]:
    same = Counter(one.canonical for one in old) & Counter(one.canonical for one in new)
    removed, added = _without(old, same), _without(new, same)
    if not removed and not added:
        reordered = [one.canonical for one in old] != [one.canonical for one in new]
        was, now = ([one.statement.name for one in each] for each in (old, new))
        return [Detail("order of the statements", "changed", was, now)] if reordered else []
    pairs = _paired(old, new, removed, added)
    result = [_one(one, "removed") for one in removed if id(one) not in {id(before) for before, _ in pairs}]
    partner = {id(after): before for before, after in pairs}
    result += (_changed(partner[id(one)], one) if id(one) in partner else _one(one, "added") for one in added)
    return result


def _without(statements: Iterable[_Written], same: Counter[str]) -> list[_Written]:
    left = same.copy()
    rest = []
    for one in statements:
        if left[one.canonical]:
            left[one.canonical] -= 1
        else:
            rest.append(one)
    return rest


def _paired(
    old: list[_Written], new: list[_Written], removed: list[_Written], added: list[_Written]
) -> list[tuple[_Written, _Written]]:
    """Statements of both policies that are one statement, changed."""
    sids = [Counter(one.statement.sid for one in each if one.statement.sid) for each in (old, new)]
    unique = {sid for sid in sids[0] if sids[0][sid] == 1 and sids[1][sid] == 1}
    by_sid = {one.statement.sid: one for one in removed if one.statement.sid in unique}
    pairs = [(by_sid[one.statement.sid], one) for one in added if one.statement.sid in by_sid]
    taken = {id(one) for pair in pairs for one in pair}
    candidates = [
        (_likeness(before.statement, after.statement), -at, -beside, before, after)
        for at, before in enumerate(removed)
        for beside, after in enumerate(added)
        if id(before) not in taken and id(after) not in taken
    ]
    for likeness, _, _, before, after in sorted(candidates, key=lambda one: one[:3], reverse=True):
        if likeness >= _ALIKE and id(before) not in taken and id(after) not in taken:
            pairs.append((before, after))
            taken |= {id(before), id(after)}
    return pairs


def _likeness(old: Statement, new: Statement) -> int:
    return sum(
        (
            old.effect == new.effect,
            (old.principal_kind, _principals(old).keys()) == (new.principal_kind, _principals(new).keys()),
            (old.not_actions, _actions(old).keys()) == (new.not_actions, _actions(new).keys()),
            _conditions(old) == _conditions(new),
        )
    )


def _one(written: _Written, change: Any) -> Detail:
    text = summary(written.statement) if written.statement.readable else None
    gone = change == "removed"
    return Detail(written.name, change, written.raw if gone else None, None if gone else written.raw, text=text)


def _changed(old: _Written, new: _Written) -> Detail:
    parts: list[Detail] = []
    one, other = old.statement, new.statement
    for name, was, now in (
        ("Sid", one.sid, other.sid),
        ("effect", one.effect, other.effect),
        ("principals are", one.principal_kind, other.principal_kind),
        ("actions are", *(("NotAction" if each.not_actions else "Action") for each in (one, other))),
    ):
        if was != now:
            parts.append(Detail(name, "changed", was, now))
    parts += _parts("principal", _principals(one), _principals(other))
    parts += _parts("action", _actions(one), _actions(other))
    parts += _parts("resource", {each: each for each in one.resources}, {each: each for each in other.resources})
    tests, now_tests = _conditions(one), _conditions(other)
    for test in sorted({*tests, *now_tests}):
        if test not in now_tests:
            parts.append(Detail(f"condition {test}", "removed", before=tests[test]))
        elif test not in tests:
            parts.append(Detail(f"condition {test}", "added", after=now_tests[test]))
        elif tests[test] != now_tests[test]:
            parts.append(Detail(f"condition {test}", "changed", tests[test], now_tests[test]))
    if not parts or not (one.readable and other.readable):
        parts = [Detail("text", "changed", old.canonical, new.canonical)]
    return Detail(new.name, "changed", old.raw, new.raw, tuple(parts))


def _parts(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Detail]:
    removed = [Detail(name, "removed", before=old[one]) for one in sorted(old.keys() - new.keys())]
    return removed + [Detail(name, "added", after=new[one]) for one in sorted(new.keys() - old.keys())]


def _principals(statement: Statement) -> dict[str, str]:
    """As compared, to as written: an account is the same as its root."""
    found = {}
    for one in statement.principals:
        root = _ROOT.fullmatch(one.value) if one.kind == "AWS" else None
        found[f"{one.kind} {root[1] if root else one.value}"] = (
            one.value if one.kind == "AWS" else f"{one.kind} {one.value}"
        )
    return found


def _principal(written: str) -> str:
    return "everyone" if written == "*" else written


def _actions(statement: Statement) -> dict[str, str]:
    return {action.lower(): action for action in statement.actions}


def _conditions(statement: Statement) -> dict[str, list[str]]:
    """Operator and key, to the values wanted."""
    return {
        f"{operator} {key}": sorted(
            one if isinstance(one, str) else canonical_json(one) for one in (raw if isinstance(raw, list) else [raw])
        )
        for operator, block in statement.conditions.items()
        if isinstance(block, Mapping)
        for key, raw in block.items()
    }


def _listed(values: list[str]) -> str:
    return f"= {values[0]}" if len(values) == 1 else f"in ({', '.join(values)})"
