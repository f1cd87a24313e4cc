"""The rules: one .sql file each, a YAML header in comments and one SELECT over the mart's views."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import yaml

from models.errors import UserError
from models.settings import Settings
from models.settings.yaml_loader import LOADER
from models.severities import SEVERITIES
from reports.rules.framework_loader import controls_by_rule

FAMILIES = (
    "state",
    "rotation",
    "access",
    "grants",
    "multi-region",
    "material",
    "aliases",
    "ownership",
    "use",
    "secrets",
    "databases",
    "caches",
    "buckets",
    "vendors",
    "logging",
    "coverage",
)
OWN_FAMILY = "own"
"""The family of a user's rule that names none."""
_TEXTS = ("id", "title", "severity", "why", "fix")
_MORE_TEXTS = ("family", "console", "cli", "terraform")
"""Shipped rules have them; a user's rule may."""
_KEYS = (*_TEXTS, *_MORE_TEXTS, "frameworks", "parameters")
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
    family: str
    frameworks: tuple[str, ...]
    """What the header itself states: only users' rules do; those of shipped rules are in frameworks/*.yaml."""
    why: str
    fix: str
    console: str | None
    cli: str | None
    terraform: str | None
    parameters: Mapping[str, str]
    defaults: Mapping[str, str]
    """The parameters as the file has them."""
    about: Mapping[str, str]
    """What each parameter means; empty where the header does not say."""
    query: str
    source: str
    """The file, for messages."""


def load_rules(settings: Settings) -> list[Rule]:
    """The rules in force: shipped and from the settings' directories, without the disabled, with parameters set."""
    rules: dict[str, Rule] = {}
    for name, text, complete in rule_files(settings.rules.directories):
        rule = parse_rule(name, text, complete=complete)
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


def rule_files(directories: Iterable[Path] = ()) -> list[tuple[str, str, bool]]:
    """Every rule file: its name (a path where it is a user's), its text, and whether it is shipped. Nothing is parsed."""
    shipped = [(name, text, True) for name, text in _shipped()]
    return shipped + [(name, text, False) for name, text in _own(directories)]


def rule_rows(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The rules as rows of the mart's table ```internal.rule```."""
    controls = controls_by_rule()
    return [
        {
            "rule_id": rule.rule_id,
            "title": rule.title,
            "severity": rule.severity,
            "family": rule.family,
            "frameworks": [*rule.frameworks, *controls.get(rule.rule_id, ())],
            "why": rule.why,
            "fix": rule.fix,
            "console": rule.console,
            "cli": rule.cli,
            "terraform": rule.terraform,
            "parameters": orjson.dumps(rule.parameters).decode(),
        }
        for rule in rules
    ]


@cache
def parse_rule(source: str, text: str, *, complete: bool = False) -> Rule:
    """Read one rule file. Raises RuleError with the file, the line, and what was expected.

    A ``complete`` header has every text, a known family and no frameworks, as shipped rules do.
    """
    lines = text.splitlines()
    header_end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = _header(source, [line[2:].removeprefix(" ") for line in lines[:header_end]], complete=complete)
    query = "\n" * header_end + "\n".join(lines[header_end:])
    parameters = header.get("parameters") or {}
    _check_query(source, query, header_end + 1, set(parameters))
    described = {name: one if isinstance(one, dict) else {"default": one} for name, one in parameters.items()}
    return Rule(
        rule_id=header["id"],
        title=header["title"],
        severity=header["severity"],
        family=header.get("family") or OWN_FAMILY,
        frameworks=tuple(header.get("frameworks") or ()),
        why=header["why"],
        fix=header["fix"],
        console=header.get("console") or None,
        cli=header.get("cli") or None,
        terraform=header.get("terraform") or None,
        parameters={name: one["default"] for name, one in described.items()},
        defaults={name: one["default"] for name, one in described.items()},
        about={name: one.get("about", "") for name, one in described.items()},
        query=query,
        source=source,
    )


def _header(source: str, lines: list[str], *, complete: bool) -> dict[str, Any]:
    text = "\n".join(lines)
    try:
        node = yaml.compose(text, Loader=LOADER)
        values = yaml.load(text, Loader=LOADER)  # noqa: S506 - it only makes texts, lists and mappings
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RuleError(f"{source}:{line}: the header is no valid YAML: {error.problem}") from error
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise RuleError(f"{source}:1: expected a header of comment lines with {', '.join(_TEXTS)}")
    places = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    known = tuple(key for key in _KEYS if not (complete and key == "frameworks"))
    for key, line in places.items():
        if key not in known:
            raise RuleError(f"{source}:{line}: {key!r} is no part of a header; known are {', '.join(known)}")
    for key in (*_TEXTS, *_MORE_TEXTS):
        missing = key in values or complete or key in _TEXTS
        if missing and (not isinstance(values.get(key), str) or not values[key].strip()):
            raise RuleError(f"{source}:{places.get(key, 1)}: the header needs a text for {key!r}")
    families = not complete or values["family"] in FAMILIES
    checks = (
        ("id", bool(_ID.fullmatch(values["id"])), "lower-case words joined by hyphens"),
        ("severity", values["severity"] in SEVERITIES, f"one of {', '.join(SEVERITIES)}"),
        ("family", families, f"one of {', '.join(FAMILIES)}"),
        ("frameworks", _is_list(values.get("frameworks")), "a list of texts"),
    )
    for key, good, expected in checks:
        if not good:
            raise RuleError(f"{source}:{places[key]}: expected {expected} for {key!r}")
    declared = next((value for key, value in node.value if key.value == "parameters"), None)
    _check_parameters(source, places.get("parameters", 1), values.get("parameters"), declared, complete=complete)
    return values


def _is_list(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _check_parameters(source: str, line: int, values: Any, node: Any, *, complete: bool) -> None:
    """Each is ``name: {default: text, about: text}``; in a user's rule also ``name: text``."""
    if not values:
        return
    if not isinstance(values, dict):
        raise RuleError(f"{source}:{line}: expected names (lower case, digits, _) for 'parameters'")
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise RuleError(f"{source}:{lines[name]}: expected names (lower case, digits, _) for 'parameters'")
        if isinstance(value, str) and not complete:
            continue
        fits = isinstance(value, dict) and set(value) <= {"default", "about"} and "default" in value
        texts = fits and all(isinstance(one, str) for one in value.values())
        if not texts or (complete and not value.get("about", "").strip()):
            raise RuleError(
                f"{source}:{lines[name]}: expected {{default: TEXT, about: TEXT}} for parameter {name!r}, "
                "and in about what it means, with its unit"
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
    folder = resources.files("reports.rules").joinpath("shipped")
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
