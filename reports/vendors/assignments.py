"""The uses of vendor profiles: a profile with the settings' values in force, and texts with placeholders filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from models.settings import Settings
from models.settings.vendors import VendorUse
from reports.vendors.profile import PLACEHOLDER, Profile, VendorProfileError, load_profiles


@dataclass(frozen=True, slots=True)
class Use:
    """A profile in use. One that the settings do not name is ``configured`` false: it goes by what its document fixes."""

    name: str
    profile: Profile
    configured: bool
    accounts: tuple[str, ...]
    keys: tuple[str, ...]
    values: Mapping[str, str]
    """Parameters in force; empty text for one without a value."""

    def required(self) -> str:
        """The values that properties of its keys must have, as JSON; those that are only recommended are left out."""
        wanted = [one for one in self.profile.keys.properties if one.level == "required"]
        return orjson.dumps({one.name: " or ".join(one.expect) for one in wanted}).decode()

    def text(self, written: str | None, more: Mapping[str, str] | None = None) -> str:
        """A text of the profile with its placeholders filled in."""
        values = {**self.values, **(more or {})}
        return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), written or "")

    def json(self, written: Any, more: Mapping[str, str | list[str]] | None = None) -> str:
        """A policy or statement of the profile as JSON text, secrets left as placeholders; a list takes the place of its name."""
        values: dict[str, str | list[str]] = {**self.values, **(more or {})}
        for name, parameter in self.profile.parameters.items():
            if parameter.secret or not values.get(name):
                values[name] = f"<{name}>"
        return orjson.dumps(_filled(written, values), option=orjson.OPT_INDENT_2).decode()


def uses(settings: Settings) -> list[Use]:
    """The uses in force, by name: those of the settings, and every profile that these do not use. VendorProfileError."""
    profiles = load_profiles(settings.vendors.directories)
    found = [_use(name, use, profiles) for name, use in settings.vendors.profiles.items()]
    used = {use.profile.id for use in found}
    found += [
        Use(profile.id, profile, configured=False, accounts=(), keys=(), values=_values(profile, {}, profile.id))
        for profile in profiles.values()
        if profile.id not in used
    ]
    return sorted(found, key=lambda use: (use.profile.vendor.lower(), use.name))


def _use(name: str, use: VendorUse, profiles: Mapping[str, Profile]) -> Use:
    profile = profiles.get(use.profile or name)
    if profile is None:
        raise VendorProfileError(
            f"vendors.profiles.{name} is a use of {use.profile or name}, which is no profile; "
            f"there are {', '.join(sorted(profiles))}"
        )
    values = _values(profile, use.parameters, name)
    return Use(name, profile, configured=True, accounts=use.accounts, keys=use.keys, values=values)


def _values(profile: Profile, given: Mapping[str, str], name: str) -> dict[str, str]:
    for parameter, value in given.items():
        known = profile.parameters.get(parameter)
        where = f"vendors.profiles.{name}.parameters"
        if known is None:
            there = ", ".join(sorted(profile.parameters)) or "none"
            raise VendorProfileError(f"{where} sets {parameter}, which is no parameter of {profile.id}; it has {there}")
        if known.choices and value and value not in known.choices:
            raise VendorProfileError(f"{where}.{parameter} is {value!r}; expected {' or '.join(known.choices)}")
    return {parameter: given.get(parameter) or known.default or "" for parameter, known in profile.parameters.items()}


def _filled(value: Any, values: Mapping[str, str | list[str]]) -> Any:
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and isinstance(values.get(whole[1]), list):
            return values[whole[1]]
        return PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), value)
    if isinstance(value, Mapping):
        return {_filled(key, values): _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        filled = [_filled(inner, values) for inner in value]
        return filled[0] if len(filled) == 1 and isinstance(filled[0], list) else filled
    return value
