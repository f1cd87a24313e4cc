"""Assignments of vendor profiles: a profile with the values from the settings, and its texts with placeholders replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import Collected
from models.settings import Settings
from models.settings.vendors import VendorUse
from reports.vendors.profile import PLACEHOLDER, Profile, VendorProfileError, load_profiles


@dataclass(frozen=True, slots=True)
class ProfileAssignment:
    """A profile with its values. ``configured`` is false if the settings do not name it: only the profile's defaults apply."""

    name: str
    profile: Profile
    configured: bool
    accounts: tuple[str, ...]
    keys: tuple[str, ...]
    values: Mapping[str, str]
    """Current parameters; a parameter without a value is an empty text."""

    def required(self) -> str:
        """The required values of key properties as JSON, without recommended ones."""
        required = [prop for prop in self.profile.keys.properties if prop.level == "required"]
        return orjson.dumps({prop.name: " or ".join(prop.expect) for prop in required}).decode()

    def text(self, template: str | None, extra: Mapping[str, str] | None = None) -> str:
        """A text of the profile with placeholders replaced."""
        values = {**self.values, **(extra or {})}
        return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template or "")

    def json(self, template: Any, extra: Mapping[str, str | list[str]] | None = None) -> str:
        """A policy or statement of the profile as JSON. Secrets stay placeholders; a list replaces its placeholder."""
        values: dict[str, str | list[str]] = {**self.values, **(extra or {})}
        for name, parameter in self.profile.parameters.items():
            if parameter.secret or not values.get(name):
                values[name] = f"<{name}>"
        return orjson.dumps(_filled(template, values), option=orjson.OPT_INDENT_2).decode()


def load_assignments(settings: Settings) -> list[ProfileAssignment]:
    """The assignments, ordered by vendor: those of the settings, and unconfigured profiles. Raises VendorProfileError."""
    profiles = load_profiles(settings.vendors.directories)
    assignments, errors = [], Collected()
    for name, use in settings.vendors.profiles.items():
        with errors:
            assignments.append(_assignment(name, use, profiles))
    errors.reraise()
    used = {assignment.profile.id for assignment in assignments}
    unused = (name for name in profiles if name not in used)
    assignments += [_assignment(name, VendorUse(), profiles, configured=False) for name in unused]
    return sorted(assignments, key=lambda assignment: (assignment.profile.vendor.lower(), assignment.name))


def _assignment(
    name: str, use: VendorUse, profiles: Mapping[str, Profile], *, configured: bool = True
) -> ProfileAssignment:
    profile = profiles.get(use.profile or name)
    if profile is None:
        raise VendorProfileError(
            f"vendors.profiles.{name} names the profile {use.profile or name}, which does not exist: "
            f"choose from {', '.join(sorted(profiles))}"
        )
    return ProfileAssignment(name, profile, configured, use.accounts, use.keys, _values(profile, use.parameters, name))


def _values(profile: Profile, given: Mapping[str, str], name: str) -> dict[str, str]:
    for parameter, value in given.items():
        known = profile.parameters.get(parameter)
        where = f"vendors.profiles.{name}.parameters"
        if known is None:
            valid = ", ".join(sorted(profile.parameters)) or "none"
            raise VendorProfileError(
                f"{where} sets {parameter}, which is not a parameter of {profile.id}: choose from {valid}"
            )
        if known.choices and value and value not in known.choices:
            raise VendorProfileError(f"{where}.{parameter} is {value!r}; expected {' or '.join(known.choices)}")
    return {parameter: given.get(parameter) or known.default or "" for parameter, known in profile.parameters.items()}


def _filled(value: Any, values: Mapping[str, str | list[str]]) -> Any:
    if isinstance(value, str):
        placeholder = PLACEHOLDER.fullmatch(value)
        if placeholder and isinstance(values.get(placeholder[1]), list):
            return values[placeholder[1]]
        return PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), value)
    if isinstance(value, Mapping):
        return {_filled(key, values): _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        filled = [_filled(inner, values) for inner in value]
        return filled[0] if len(filled) == 1 and isinstance(filled[0], list) else filled
    return value
