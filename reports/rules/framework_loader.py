"""Published frameworks: maps their controls to rules. The data is in frameworks/*.yaml, one file per version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import duckdb

from models.errors import UserError
from models.settings import Settings
from reports.mart.extension import fill
from reports.rules.yaml_files import read_document


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
    """The shipped frameworks, ordered by ID. The tests check the form of the files."""
    folder = resources.files("reports.rules").joinpath("frameworks")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(_framework(read_document(file.read_text(encoding="utf-8"))) for file in files)


def _framework(values: Mapping[str, Any]) -> Framework:
    controls = values["controls"].items()
    return Framework(
        framework_id=values["id"],
        title=values["title"],
        version=values["version"],
        source=values["source"],
        checked=values["checked"],
        controls=tuple(Control(name, control["title"], tuple(control["rules"])) for name, control in controls),
    )


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
