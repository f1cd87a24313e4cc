"""The rules: one .sql file each, a YAML header in comments and one SELECT over the mart's views."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import yaml

from models.errors import UserError
from models.settings import Settings

SEVERITIES = ("critical", "high", "medium", "low", "info")
_TEXTS = ("id", "title", "severity", "why", "fix")
_KEYS = (*_TEXTS, "frameworks", "parameters")
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class RuleError(UserError):
    """A rule, or what the settings say of rules, cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``parameters`` are the values in force: the file's defaults, replaced by the settings'."""

    rule_id: str
    title: str
    severity: str
    frameworks: tuple[str, ...]
    why: str
    fix: str
    parameters: Mapping[str, str]
    query: str
    source: str
    """The file, for messages."""


def load_rules(settings: Settings) -> list[Rule]:
    """The rules in force: shipped and from the settings' directories, without the disabled, with parameters set."""
    rules: dict[str, Rule] = {}
    for name, text in [*_shipped(), *_own(settings.rules.directories)]:
        rule = parse_rule(name, text)
        if rule.rule_id in rules:
            raise RuleError(
                f"{name}: rule {rule.rule_id} is already in {rules[rule.rule_id].source}: give it another id"
            )
        rules[rule.rule_id] = rule
    for where, ids in (("disable", settings.rules.disable), ("parameters", settings.rules.parameters)):
        for rule_id in ids:
            if rule_id not in rules:
                raise RuleError(
                    f"rules.{where} names {rule_id}, which is no rule; there are {', '.join(sorted(rules))}"
                )
    for rule_id, values in settings.rules.parameters.items():
        rule = rules[rule_id]
        for parameter in values:
            if parameter not in rule.parameters:
                known = ", ".join(sorted(rule.parameters)) or "none"
                raise RuleError(
                    f"rules.parameters.{rule_id} sets {parameter}, which is no parameter of it; it has {known}"
                )
        rules[rule_id] = replace(rule, parameters={**rule.parameters, **values})
    return [rule for rule_id, rule in sorted(rules.items()) if rule_id not in settings.rules.disable]


def rule_rows(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The rules as rows of the mart's table ``ledger.rule``."""
    return [
        {
            "rule_id": rule.rule_id,
            "title": rule.title,
            "severity": rule.severity,
            "frameworks": rule.frameworks,
            "why": rule.why,
            "fix": rule.fix,
            "parameters": orjson.dumps(rule.parameters).decode(),
        }
        for rule in rules
    ]


def parse_rule(source: str, text: str) -> Rule:
    """Read one rule file. Raises RuleError with the file, the line, and what was expected."""
    lines = text.splitlines()
    header_end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = _header(source, [line[2:].removeprefix(" ") for line in lines[:header_end]])
    query = "\n" * header_end + "\n".join(lines[header_end:])
    parameters = header.get("parameters") or {}
    _check_query(source, query, header_end + 1, set(parameters))
    return Rule(
        rule_id=header["id"],
        title=header["title"],
        severity=header["severity"],
        frameworks=tuple(header.get("frameworks") or ()),
        why=header["why"],
        fix=header["fix"],
        parameters=parameters,
        query=query,
        source=source,
    )


def _header(source: str, lines: list[str]) -> dict[str, Any]:
    text = "\n".join(lines)
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        values = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader only makes texts, lists and mappings
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RuleError(f"{source}:{line}: the header is no valid YAML: {error.problem}") from error
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise RuleError(f"{source}:1: expected a header of comment lines with {', '.join(_TEXTS)}")
    places = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    for key, line in places.items():
        if key not in _KEYS:
            raise RuleError(f"{source}:{line}: {key!r} is no part of a header; known are {', '.join(_KEYS)}")
    for key in _TEXTS:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise RuleError(f"{source}:{places.get(key, 1)}: the header needs a text for {key!r}")
    checks = (
        ("id", bool(_ID.fullmatch(values["id"])), "lower-case words joined by hyphens"),
        ("severity", values["severity"] in SEVERITIES, f"one of {', '.join(SEVERITIES)}"),
        ("frameworks", _is_list(values.get("frameworks")), "a list of texts"),
        ("parameters", _is_mapping(values.get("parameters")), "names (lower case, digits, _) with default texts"),
    )
    for key, good, expected in checks:
        if not good:
            raise RuleError(f"{source}:{places[key]}: expected {expected} for {key!r}")
    return values


def _is_list(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_mapping(value: Any) -> bool:
    if not value:
        return True
    return isinstance(value, dict) and all(
        _NAME.fullmatch(name) and isinstance(text, str) for name, text in value.items()
    )


def _check_query(source: str, query: str, line: int, parameters: set[str]) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.ParserException as error:
        found = re.search(r"LINE (\d+):", str(error))
        cause = str(error).splitlines()[0].removeprefix("Parser Error: ")
        raise RuleError(f"{source}:{found[1] if found else line}: the query is not valid SQL: {cause}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise RuleError(f"{source}:{line}: expected one SELECT after the header")
    used = set(statements[0].named_parameters)
    if used != parameters:
        undeclared, unused = sorted(used - parameters), sorted(parameters - used)
        problem = f"${undeclared[0]} is not declared" if undeclared else f"{unused[0]!r} is declared but not used"
        raise RuleError(f"{source}:{line}: parameter {problem}; the header's parameters are the query's $names")


def _shipped() -> list[tuple[str, str]]:
    folder = resources.files("reports.compliance").joinpath("rules")
    return [(file.name, file.read_text(encoding="utf-8")) for file in _sql_files(folder)]


def _own(directories: Iterable[Path]) -> list[tuple[str, str]]:
    found = []
    for directory in directories:
        if not directory.is_dir():
            raise RuleError(f"rules.directories names {directory}, which is no directory")
        for file in _sql_files(directory):
            try:
                found.append((str(file), file.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError) as error:
                raise RuleError(f"{file}: the rule cannot be read: {error}") from error
    return found


def _sql_files(folder: Traversable | Path) -> list[Any]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
