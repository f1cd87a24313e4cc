"""Published frameworks: maps their controls to rules. The data is in frameworks/*.yaml, one file per version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import duckdb

from models.errors import UserError
from models.settings import Settings
from reports.mart.extension import fill
from reports.rules.yaml_files import InvalidYamlError, Lined, read_document

_KEYS = ("id", "title", "version", "source", "checked", "controls")
_ID = re.compile(r"[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*")
_DAY = re.compile(r"20\d\d-[01]\d-[0-3]\d")


class FrameworkError(UserError):
    """A framework file is invalid."""

    exit_code = 2


class UnknownFrameworkError(UserError):
    """The settings name a framework that does not exist."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Control:
    """One control: its requirement, in our own words, and the rules that check it."""

    control_id: str
    title: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Framework:
    """One version of a framework, limited to controls about keys and encryption."""

    framework_id: str
    title: str
    version: str
    source: str
    """The public address of the standard."""
    checked: str
    """The date on which the mapping was checked against the source."""
    controls: tuple[Control, ...]

    @property
    def name(self) -> str:
        """Title and version, as cited in reports."""
        return f"{self.title} {self.version}".strip()


@cache
def load_frameworks() -> tuple[Framework, ...]:
    """The shipped frameworks, ordered by ID. Raises FrameworkError with file and line."""
    folder = resources.files("reports.rules").joinpath("frameworks")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(parse_framework(file.name, file.read_text(encoding="utf-8")) for file in files)


@cache
def controls_by_rule() -> dict[str, tuple[str, ...]]:
    """The controls that each rule maps to, as ``CIS AWS Foundations Benchmark 3.0.0 - 3.6``."""
    controls: dict[str, list[str]] = {}
    for framework in load_frameworks():
        for control in framework.controls:
            for rule_id in control.rules:
                controls.setdefault(rule_id, []).append(f"{framework.name} - {control.control_id}")
    return {rule_id: tuple(names) for rule_id, names in controls.items()}


def prepare(duck: duckdb.DuckDBPyConnection) -> None:
    """Fill the mart's table ``internal.framework_control``: one row per rule and control."""
    fill(
        duck,
        "framework_control",
        (
            {
                "framework": framework.framework_id,
                "framework_title": framework.title,
                "version": framework.version,
                "source": framework.source,
                "checked": framework.checked,
                "position": position,
                "control": control.control_id,
                "title": control.title,
                "rule_id": rule_id,
            }
            for framework in load_frameworks()
            for position, control in enumerate(framework.controls)
            for rule_id in control.rules
        ),
    )


def check_frameworks(settings: Settings) -> None:
    """Raise UnknownFrameworkError unless every framework that the settings name exists."""
    known = {framework.framework_id for framework in load_frameworks()}
    listed = ", ".join(sorted(known))
    unknown = [name for name in settings.report.frameworks if name not in known]
    if unknown:
        raise UnknownFrameworkError(
            "\n".join(f"report.frameworks: no framework is named {name!r}: choose from {listed}" for name in unknown)
        )


def parse_framework(source: str, text: str) -> Framework:
    """Parse one file. Raises FrameworkError with the file, the line and the expected value."""
    try:
        values = read_document(text)
    except InvalidYamlError as error:
        raise FrameworkError(f"{source}:{error.line}: {error}") from error
    if not isinstance(values, Lined):
        raise FrameworkError(f"{source}:1: expected a mapping with {', '.join(_KEYS)}")
    lines = values.lines
    for key, line in lines.items():
        if key not in _KEYS:
            raise FrameworkError(
                f"{source}:{line}: {key!r} is not a key of a framework: choose from {', '.join(_KEYS)}"
            )
    for key in _KEYS[:-1]:
        if not isinstance(values.get(key), str) or (key != "version" and not values[key].strip()):
            raise FrameworkError(f"{source}:{lines.get(key, 1)}: expected a text for {key!r}")
    checks = (
        ("id", _ID.fullmatch(values["id"]) and source == f"{values['id']}.yaml", "the file's name, in lower case"),
        ("source", values["source"].startswith("https://"), "an https URL"),
        ("checked", _DAY.fullmatch(values["checked"]), "a date such as 2026-11-22"),
        ("controls", isinstance(values.get("controls"), dict) and values["controls"], "a mapping of controls by ID"),
    )
    for key, good, expected in checks:
        if not good:
            raise FrameworkError(f"{source}:{lines.get(key, 1)}: expected {expected} for {key!r}")
    control_lines = values["controls"].lines
    controls = [_control(source, control_lines[name], name, control) for name, control in values["controls"].items()]
    return Framework(
        framework_id=values["id"],
        title=values["title"],
        version=values["version"],
        source=values["source"],
        checked=values["checked"],
        controls=tuple(controls),
    )


def _control(source: str, line: int, control_id: str, value: Any) -> Control:
    complete = isinstance(value, dict) and set(value) == {"title", "rules"}
    given: dict[str, Any] = value if complete else {"title": "", "rules": []}
    title, rules = given["title"], given["rules"]
    good = isinstance(title, str) and title.strip() and isinstance(rules, list) and rules
    if not good or not all(isinstance(rule_id, str) for rule_id in rules) or len(set(rules)) != len(rules):
        raise FrameworkError(
            f"{source}:{line}: expected {{title: TEXT, rules: [RULE ...]}} for control {control_id!r}, each rule once"
        )
    return Control(control_id, title, tuple(rules))
