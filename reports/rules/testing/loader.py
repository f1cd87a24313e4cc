"""Loads example files: YAML with line numbers, so that errors name the line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from models.severities import STATUSES
from reports.rules.loader import RuleError, check_keys
from reports.rules.yaml_files import InvalidYamlError, Lined, read_documents

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
_RUN_KEYS = (*SECTIONS, "outcome", "regions", "organization", "remove")
_EXAMPLE_KEYS = ("name", "expect", "says", "parameters", "runs", *_RUN_KEYS[:-1])


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a rule: the facts of each run, and the results expected of the rule."""

    rule_id: str
    name: str
    source: str
    line: int
    expect: Mapping[str, str]
    says: Mapping[str, str]
    parameters: Mapping[str, str]
    runs: tuple[Lined, ...]
    """The facts of the first run, then the changes of each further run."""

    @property
    def location(self) -> str:
        """File, line and name, for messages."""
        return f"{self.source}:{self.line}: {self.name}"


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of one rule."""

    examples: tuple[Example, ...]
    cannot: Mapping[str, str]
    """Statuses that the rule cannot have, with the reason."""


def read_examples(source: str, text: str, rule_id: str, parameters: Iterable[str]) -> Examples:
    """Parse one file; ``parameters`` are the rule's. Raises RuleError with file, line and the expected value."""
    try:
        documents = read_documents(text, _scalar)
    except InvalidYamlError as error:
        raise RuleError(f"{source}:{error.line}: {error}") from error
    items = [item for document in documents for item in (document if isinstance(document, list) else [document])]
    cannot: dict[str, str] = {}
    if items and isinstance(items[0], Lined) and set(items[0]) == {"cannot"}:
        cannot = _texts(source, items.pop(0), "cannot")
        if not set(cannot) <= set(STATUSES):
            raise RuleError(f"{source}:1: 'cannot' maps statuses to reasons: choose from {', '.join(STATUSES)}")
    if not items:
        raise RuleError(f"{source}:1: expected a list of examples")
    examples = tuple(_example(source, item, rule_id, set(parameters)) for item in items)
    names = [example.name for example in examples]
    for example in examples:
        if names.count(example.name) > 1:
            raise RuleError(f"{example.location}: another example has this name")
    return Examples(examples, cannot)


def _example(source: str, value: Any, rule_id: str, parameters: set[str]) -> Example:
    if not isinstance(value, Lined):
        raise RuleError(f"{source}:1: expected examples with name, expect and facts, found {value!r}")
    check_keys(source, value, _EXAMPLE_KEYS, "an example")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise RuleError(f"{source}:{value.line}: an example needs a name")
    expect = {key: status or NO_ROW for key, status in _texts(source, value, "expect").items()}
    if not expect:
        raise RuleError(f"{source}:{value.line}: expected {{NAME: STATUS}} for 'expect' of {name!r}")
    for key, status in expect.items():
        if status not in {*STATUSES, NO_ROW}:
            line = value["expect"].lines[key]
            raise RuleError(
                f"{source}:{line}: {status!r} is not a status: choose from {', '.join(STATUSES)}, {NO_ROW} (no row)"
            )
    reason_text = value.get("says")
    says = {next(iter(expect)): reason_text} if isinstance(reason_text, str) else _texts(source, value, "says")
    overrides = _texts(source, value, "parameters")
    for key in overrides:
        if key not in parameters:
            line = value["parameters"].lines[key]
            raise RuleError(f"{source}:{line}: the rule has no parameter {key!r}")
    runs = value.get("runs") or []
    if not isinstance(runs, list) or not all(isinstance(run, Lined) for run in runs):
        raise RuleError(f"{source}:{value.lines['runs']}: expected a list of runs, each with its changes")
    for run in runs:
        check_keys(source, run, _RUN_KEYS, "a run")
    for run in (value, *runs):
        for section in SECTIONS:
            rows = run.get(section) or []
            if not isinstance(rows, list) or not all(isinstance(row, Lined) for row in rows):
                raise RuleError(f"{source}:{run.lines[section]}: expected a list of mappings for {section!r}")
    first = Lined(value.line)
    for key in _RUN_KEYS:
        if key in value:
            first[key], first.lines[key] = value[key], value.lines[key]
    return Example(rule_id, name, source, value.line, expect, says, overrides, (first, *runs))


def _texts(source: str, value: Lined, name: str) -> dict[str, str]:
    texts = value.get(name) or {}
    if not isinstance(texts, dict) or not all(text is None or isinstance(text, str | int) for text in texts.values()):
        raise RuleError(f"{source}:{value.lines[name]}: expected a mapping to texts for {name!r}")
    return {key: "" if text is None else str(text) for key, text in texts.items()}


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar. Only true, false, null and numbers of up to 10 digits are not texts (account IDs are)."""
    text: str = node.value
    if node.style:
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    return {"true": True, "false": False, "null": None, "~": None, "": None}.get(text, text)
