"""Loads rules: each is one .sql file with a YAML header in comments and one SELECT over the mart's views."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import duckdb
import orjson

from models.errors import UserError
from models.settings import Settings
from models.severities import SEVERITIES
from reports.mart.query import statement_kind
from reports.rules import lint
from reports.rules.framework_loader import controls_by_rule
from reports.rules.yaml_files import InvalidYamlError, Lined, read_document

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
"""The family of a user's rule without a family."""
_TEXTS = ("id", "title", "severity", "why", "fix")
_MORE_TEXTS = ("family", "console", "cli", "terraform")
"""Required in shipped rules, optional in a user's rule."""
_KEYS = (*_TEXTS, *_MORE_TEXTS, "frameworks", "parameters")
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")

OLD_FORM = (
    "instead of the columns status and reason a rule returns one column verdict: write CASE WHEN ... THEN unknown('reason') "
    "WHEN ... THEN fail('reason') WHEN ... THEN pass('reason') END AS verdict (docs/rules.md)"
)

log = logging.getLogger(__name__)


class RuleError(UserError):
    """A rule, or a setting about rules, is invalid."""

    exit_code = 2


class IncompleteRuleError(RuleError):
    """A rule lacks a text of the header, or its SELECT."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``parameters`` are the current values: the file's defaults, overridden by the settings."""

    rule_id: str
    title: str
    severity: str
    family: str
    frameworks: tuple[str, ...]
    """From the header, in users' rules only; those of shipped rules are in frameworks/*.yaml."""
    why: str
    fix: str
    console: str | None
    cli: str | None
    terraform: str | None
    parameters: Mapping[str, str]
    defaults: Mapping[str, str]
    """The parameters as declared in the file."""
    about: Mapping[str, str]
    """The meaning of each parameter; empty if the header has none."""
    query: str
    source: str
    """The file, for messages."""
    shipped: bool = False

    @property
    def controls(self) -> list[str]:
        """The controls that the rule maps to, from its header and from frameworks/*.yaml."""
        return [*self.frameworks, *controls_by_rule().get(self.rule_id, ())]

    def texts(self) -> dict[str, str | None]:
        """The texts of the header by key, without the ID."""
        keys = ("title", "severity", "family", "why", "fix", "console", "cli", "terraform")
        return {key: getattr(self, key) for key in keys}


def load_rules(settings: Settings) -> list[Rule]:
    """The rules in force: shipped and from the settings' directories, except disabled ones, with the settings' parameters.

    An incomplete rule is skipped with a warning. Raises RuleError for an invalid one.
    """
    rules: dict[str, Rule] = {}
    incomplete: set[str] = set()
    for name, text, complete in rule_files(settings.rules.directories):
        try:
            rule = parse_rule(name, text, complete=complete)
        except IncompleteRuleError as error:
            incomplete.add(Path(name).stem)
            _warn(f"{error}; the rule is skipped until it is complete")
            continue
        if rule.rule_id in rules:
            raise RuleError(
                f"{name}: rule {rule.rule_id} is already defined in {rules[rule.rule_id].source}: give it another ID"
            )
        rules[rule.rule_id] = rule
    problems = [
        f"rules.{where} names {rule_id}, which is not a rule: choose from {', '.join(sorted(rules))}"
        for where, ids in (("disable", settings.rules.disable), ("parameters", settings.rules.parameters))
        for rule_id in ids
        if rule_id not in rules and rule_id not in incomplete
    ]
    for rule_id, values in settings.rules.parameters.items():
        if rule_id not in rules:
            continue
        rule = rules[rule_id]
        known = ", ".join(sorted(rule.parameters)) or "none"
        problems += [
            f"rules.parameters.{rule_id} sets {parameter}, which is not a parameter of the rule: choose from {known}"
            for parameter in values
            if parameter not in rule.parameters
        ]
        rules[rule_id] = replace(rule, parameters={**rule.parameters, **values})
    if problems:
        raise RuleError("\n".join(problems))
    return [rule for rule_id, rule in sorted(rules.items()) if rule_id not in settings.rules.disable]


def rule_files(directories: Iterable[Path] = ()) -> list[tuple[str, str, bool]]:
    """Every rule file, unparsed: its name (a path for a user's rule), its text, and whether it is shipped."""
    shipped = resources.files("reports.rules").joinpath("shipped")
    files = [(file.name, read_text(file), True) for file in _sql_files(shipped)]
    for directory in directories:
        if not directory.is_dir():
            raise RuleError(
                f"rules.directories names {directory}, which is not a directory: create it, or correct the setting"
            )
        files += ((str(file), read_text(file), False) for file in _sql_files(directory))
    return files


def rule_rows(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The rules as rows of the mart's table ``internal.rule``."""
    return [
        {
            "rule_id": rule.rule_id,
            **rule.texts(),
            "frameworks": rule.controls,
            "parameters": orjson.dumps(rule.parameters).decode(),
        }
        for rule in rules
    ]


@cache
def parse_rule(source: str, text: str, *, complete: bool = False) -> Rule:
    """Parse one rule file. Raises RuleError with the file, the line and the expected value.

    A ``complete`` header has every text, a known family and no frameworks, as in shipped rules. Raises IncompleteRuleError if
    a text is missing or empty.
    """
    lines = text.splitlines()
    header_end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = _header(source, [line[2:].removeprefix(" ") for line in lines[:header_end]], complete=complete)
    query = "\n" * header_end + "\n".join(lines[header_end:])
    parameters = header.get("parameters") or {}
    _check_query(source, query, header_end + 1, set(parameters))
    if not complete:
        _check_own_query(source, query)
    declared = {name: value if isinstance(value, dict) else {"default": value} for name, value in parameters.items()}
    defaults = {name: declaration["default"] for name, declaration in declared.items()}
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
        parameters=defaults,
        defaults=defaults,
        about={name: declaration.get("about", "") for name, declaration in declared.items()},
        query=query,
        source=source,
        shipped=complete,
    )


def _header(source: str, lines: list[str], *, complete: bool) -> dict[str, Any]:
    try:
        values = read_document("\n".join(lines))
    except InvalidYamlError as error:
        raise RuleError(f"{source}:{error.line}: {error}") from error
    if not isinstance(values, Lined):
        raise RuleError(f"{source}:1: expected a header of comment lines with {', '.join(_TEXTS)}")
    lines_by_key = values.lines
    known = tuple(key for key in _KEYS if not (complete and key == "frameworks"))
    check_keys(source, values, known, "the header")
    for key in (*_TEXTS, *_MORE_TEXTS):
        if values.get(key) is not None and not isinstance(values[key], str):
            raise RuleError(f"{source}:{lines_by_key[key]}: the header needs a text for {key!r}")
    required = [key for key in (*_TEXTS, *_MORE_TEXTS) if key in values or complete or key in _TEXTS]
    missing = [key for key in required if not (values.get(key) or "").strip()]
    if missing:
        names = ", ".join(map(repr, missing))
        raise IncompleteRuleError(f"{source}:{lines_by_key.get(missing[0], 1)}: the header needs a text for {names}")
    families = not complete or values["family"] in FAMILIES
    checks = (
        ("id", bool(_ID.fullmatch(values["id"])), "lower-case words joined by hyphens"),
        ("severity", values["severity"] in SEVERITIES, f"one of {', '.join(SEVERITIES)}"),
        ("family", families, f"one of {', '.join(FAMILIES)}"),
        ("frameworks", _is_list(values.get("frameworks")), "a list of texts"),
    )
    for key, good, expected in checks:
        if not good:
            raise RuleError(f"{source}:{lines_by_key[key]}: expected {expected} for {key!r}")
    _check_parameters(source, lines_by_key.get("parameters", 1), values.get("parameters"), complete=complete)
    return values


def check_keys(source: str, value: Lined, known: Sequence[str], what: str) -> None:
    """Raise RuleError if a mapping has an unknown key."""
    for key, line in value.lines.items():
        if key not in known:
            raise RuleError(f"{source}:{line}: {key!r} is not a key of {what}: choose from {', '.join(known)}")


def _is_list(value: Any) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _check_parameters(source: str, line: int, values: Any, *, complete: bool) -> None:
    """Raise RuleError unless each is ``name: {default: text, about: text}``, or in a user's rule ``name: text``."""
    if not values:
        return
    lines = values.lines if isinstance(values, Lined) else {}
    for name in lines or [""]:
        if not _NAME.fullmatch(name):
            raise RuleError(
                f"{source}:{lines.get(name, line)}: expected names (lower case, digits, _) for 'parameters'"
            )
    for name, value in values.items():
        if isinstance(value, str) and not complete:
            continue
        fits = isinstance(value, dict) and set(value) <= {"default", "about"} and "default" in value
        texts = fits and all(isinstance(text, str) for text in value.values())
        if not texts or (complete and not value.get("about", "").strip()):
            raise RuleError(
                f"{source}:{lines[name]}: expected {{default: TEXT, about: TEXT}} for parameter {name!r}, "
                "and in about its meaning and unit"
            )


def _check_query(source: str, query: str, line: int, parameters: set[str]) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.ParserException as error:
        position = re.search(r"LINE (\d+):", str(error))
        cause = str(error).splitlines()[0].removeprefix("Parser Error: ")
        raise RuleError(f"{source}:{position[1] if position else line}: the query is not valid SQL: {cause}") from error
    if not statements:
        raise IncompleteRuleError(f"{source}:{line}: the rule needs a SELECT after the header")
    if len(statements) != 1 or statement_kind(statements[0]) != "SELECT":
        raise RuleError(f"{source}:{line}: expected one SELECT after the header")
    used = set(statements[0].named_parameters)
    if used != parameters:
        undeclared, unused = sorted(used - parameters), sorted(parameters - used)
        problem = f"${undeclared[0]} is not declared" if undeclared else f"{unused[0]!r} is declared but not used"
        raise RuleError(f"{source}:{line}: parameter {problem}; the header's parameters are the query's $names")


def _check_own_query(source: str, query: str) -> None:
    """Raise RuleError unless a user's rule reads only the mart's views, and returns a verdict."""
    try:
        if {"status", "reason"} <= set(lint.columns(query)):
            raise RuleError(f"{source}: {OLD_FORM}")
        for line, problem in lint.check_sources(query):
            raise RuleError(f"{source}:{line}: {problem}")
    except ValueError as error:
        raise RuleError(f"{source}: the query cannot be checked: {error}: simplify it") from error


@cache
def _warn(message: str) -> None:
    """Log a warning, once per process: rules are loaded several times in one run."""
    log.warning("%s", message)


def read_text(file: Traversable | Path, what: str = "rule") -> str:
    """The text of a file. Raises RuleError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{file}: the {what} cannot be read: {error}") from error


def _sql_files(folder: Traversable | Path) -> list[Any]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
