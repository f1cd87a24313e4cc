"""Example files: YAML with the line of everything, so that a mistake in an example is told where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from models.settings.yaml_loader import LOADER
from reports.rules.loader import RuleError

STATUSES = ("pass", "fail", "unknown", "not_applicable")
NO_ROW = "none"
"""In ``expect``: the rule must not return the resource."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,9})")
SECTIONS = (
    "keys",
    "aliases",
    "stores",
    "resources",
    "trails",
    "users",
    "roles",
    "groups",
    "managed_policies",
    "gaps",
)
_NIGHT = (*SECTIONS, "outcome", "regions", "organization", "remove")
_EXAMPLE = ("name", "expect", "says", "parameters", "nights", *_NIGHT[:-1])


class Lined(dict[str, Any]):
    """A mapping that knows its own line and those of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a rule: what there is, night after night, and what the rule must say of it."""

    rule_id: str
    name: str
    source: str
    line: int
    expect: Mapping[str, str]
    says: Mapping[str, str]
    parameters: Mapping[str, str]
    nights: tuple[Lined, ...]
    """What is stated for the first night, then what each further night changes."""

    @property
    def place(self) -> str:
        """File, line and name, for messages."""
        return f"{self.source}:{self.line}: {self.name}"


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of one rule."""

    examples: tuple[Example, ...]
    cannot: Mapping[str, str]
    """Statuses that the rule cannot have, with the reason."""


def read_examples(source: str, text: str, rule_id: str, parameters: Iterable[str]) -> Examples:
    """Read one file; ``parameters`` are those of the rule. Raises RuleError with file, line and what was expected."""
    try:
        documents = [_value(source, node) for node in yaml.compose_all(text, Loader=LOADER)]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RuleError(f"{source}:{line}: no valid YAML: {error.problem}") from error
    listed = [one for document in documents for one in (document if isinstance(document, list) else [document])]
    cannot: dict[str, str] = {}
    if listed and isinstance(listed[0], Lined) and set(listed[0]) == {"cannot"}:
        cannot = _texts(source, listed.pop(0), "cannot")
        if not set(cannot) <= set(STATUSES):
            raise RuleError(f"{source}:1: 'cannot' names statuses with reasons; statuses are {', '.join(STATUSES)}")
    if not listed:
        raise RuleError(f"{source}:1: expected a list of examples")
    examples = tuple(_example(source, one, rule_id, set(parameters)) for one in listed)
    names = [one.name for one in examples]
    for one in examples:
        if names.count(one.name) > 1:
            raise RuleError(f"{one.place}: another example has this name")
    return Examples(examples, cannot)


def _example(source: str, value: Any, rule_id: str, parameters: set[str]) -> Example:
    if not isinstance(value, Lined):
        raise RuleError(f"{source}:1: expected examples with name, expect and what there is, found {value!r}")
    checked(source, value, _EXAMPLE, "an example")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise RuleError(f"{source}:{value.line}: an example needs a name")
    expect = {key: one or NO_ROW for key, one in _texts(source, value, "expect").items()}
    if not expect:
        raise RuleError(f"{source}:{value.line}: expected {{NAME: STATUS}} for 'expect' of {name!r}")
    for key, one in expect.items():
        if one not in {*STATUSES, NO_ROW}:
            line = value["expect"].lines[key]
            raise RuleError(
                f"{source}:{line}: {one!r} is no status; there are {', '.join(STATUSES)}, {NO_ROW} (no row)"
            )
    said = value.get("says")
    says = {next(iter(expect)): said} if isinstance(said, str) else _texts(source, value, "says")
    set_to = _texts(source, value, "parameters")
    for key in set_to:
        if key not in parameters:
            line = value["parameters"].lines[key]
            raise RuleError(f"{source}:{line}: the rule has no parameter {key!r}")
    nights = value.get("nights") or []
    if not isinstance(nights, list) or not all(isinstance(night, Lined) for night in nights):
        raise RuleError(f"{source}:{value.lines['nights']}: expected a list of nights, each with what it changes")
    for night in nights:
        checked(source, night, _NIGHT, "a night")
    for night in (value, *nights):
        for section in SECTIONS:
            rows = night.get(section) or []
            if not isinstance(rows, list) or not all(isinstance(row, Lined) for row in rows):
                raise RuleError(f"{source}:{night.lines[section]}: expected a list of mappings for {section!r}")
    first = Lined(value.line)
    for key in _NIGHT:
        if key in value:
            first[key], first.lines[key] = value[key], value.lines[key]
    return Example(rule_id, name, source, value.line, expect, says, set_to, (first, *nights))


def checked(source: str, value: Lined, known: Iterable[str], what: str) -> None:
    """Raise RuleError when a mapping has a key that nobody reads."""
    for key, line in value.lines.items():
        if key not in set(known):
            raise RuleError(f"{source}:{line}: {key!r} is no part of {what}; known are {', '.join(known)}")


def _texts(source: str, value: Lined, name: str) -> dict[str, str]:
    found = value.get(name) or {}
    plain = isinstance(found, dict) and all(one is None or isinstance(one, str | int) for one in found.values())
    if not plain:
        raise RuleError(f"{source}:{value.lines[name]}: expected a mapping to texts for {name!r}")
    return {key: "" if one is None else str(one) for key, one in found.items()}


def _value(source: str, node: yaml.Node) -> Any:
    """A node as plain values: true, false, null and numbers below 10 digits; all else is text (so ``off`` and account ids)."""
    if isinstance(node, yaml.MappingNode):
        found = Lined(node.start_mark.line + 1)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                raise RuleError(f"{source}:{line}: expected every key once, as a text")
            found[key.value] = _value(source, value)
            found.lines[key.value] = line
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(source, value) for value in node.value]
    text: str = node.value
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    return {"true": True, "false": False, "null": None, "~": None, "": None}.get(text, text)
