"""Vendor profiles: a vendor's requirements on keys and roles, as data. docs/vendor-profiles.md documents the format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import InitErrorDetails

from models.errors import UserError
from models.settings import SettingsError, validation_problems
from models.settings.types import AnyText, Flag, Group, Text, Unset, invalid, matching, validation_error, whole
from models.settings.yaml_loader import KeyPath, read
from reports.access.engine.kms_actions import matching as operations_of

BUILT_IN = frozenset(
    {"key_account", "key_arn", "key_arns", "key_region", "partition", "role_arn"}
    | {"tag_key", "tag_operator", "tag_value"}
)
"""Placeholders that are replaced from the facts."""
PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z][a-z0-9_]*)\}")
Json = Mapping[str, Any]


def _existing(action: str) -> str:
    if not operations_of((action,)):
        raise invalid("a valid KMS action")
    return action


Action = Annotated[
    str,
    matching(r"kms:[A-Za-z*?]+", "a KMS action such as kms:Decrypt or kms:ReEncrypt*"),
    AfterValidator(_existing),
]
Severity = Literal["critical", "high", "medium", "low", "info"]
_NAME = matching(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "lower-case words joined by hyphens")


class VendorProfileError(UserError):
    """A profile, or a setting about profiles, is invalid. The text lists all problems, one per line."""

    exit_code = 2


class Parameter(Group):
    """A value that the customer sets. The value of a secret parameter is never shown."""

    about: Text
    default: Annotated[Text | None, Unset] = None
    choices: tuple[Text, ...] = ()
    secret: Flag = False


class Property(Group):
    """A property of the key and its accepted values."""

    name: Literal["key_spec", "key_usage", "origin", "multi_region"]
    expect: Annotated[tuple[Text, ...], Field(min_length=1)]
    level: Literal["required", "recommended"] = "required"
    why: Text


class Keys(Group):
    """The keys of a profile and their required properties."""

    found_by: Literal["vendor_account", "role", "account_of_role", "configuration"] = "configuration"
    dedicated: Flag = False
    protected: Flag = False
    protected_days: Annotated[int, whole(1, 365, "days")] = 30
    delegation: Literal["expected", "any"] = "any"
    regions: tuple[Text, ...] = ()
    primary_region: Annotated[Text | None, Unset] = None
    replica_regions: tuple[Text, ...] = ()
    properties: tuple[Property, ...] = ()


class TagMode(Group):
    """One mode of selecting keys by a tag: keys with the tag are denied, or only they are granted."""

    key: Text
    value: Text
    means: Literal["denied", "granted"]
    letter_case: Literal["ignored", "counts"] = "ignored"
    operator: Text = "StringEqualsIgnoreCase"


class Tags(Group):
    """Key selection by tags; the parameter `chosen_by` names the mode."""

    chosen_by: Text
    modes: Annotated[Mapping[str, TagMode], Field(min_length=1)]


class Need(Group):
    """Operations that a principal of the vendor must be allowed: any principal of `account`, or a `role`."""

    title: Text
    account: Annotated[Text | None, Unset] = None
    role: Annotated[Text | None, Unset] = None
    role_account: Annotated[Text | None, Unset] = None
    role_tags: Mapping[str, AnyText] = Field(default_factory=dict)
    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    also: tuple[Action, ...] = ()
    conditions: Mapping[str, AnyText] = Field(default_factory=dict)
    iam: Flag = False
    statement: Json
    statement_across: Json | None = None

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield an error unless exactly one of account and role is set."""
        if bool(data.get("account")) == bool(data.get("role")):
            yield validation_error(("title",), "a need with either account or role")


class Role(Group):
    """The role in the customer's account: its trust policy and its permissions."""

    name: Text
    account: Annotated[Text | None, Unset] = None
    tags: Mapping[str, AnyText] = Field(default_factory=dict)
    trusted: Annotated[Text | None, Unset] = None
    trusted_account: Annotated[Text | None, Unset] = None
    external_id: Literal["required", "not_asked"] = "not_asked"
    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    resources: Literal["keys", "any"] = "any"
    trust_policy: Json | None = None
    policy: Json

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield an error for trusted without trust_policy."""
        if data.get("trusted") and not data.get("trust_policy"):
            yield validation_error(("trusted",), "a trust_policy beside trusted, as the suggested fix")


class Scenario(Group):
    """The effect on the vendor's service, the fix, and the days until data is lost."""

    effect: AnyText
    fix: AnyText
    days: Annotated[int, whole(1, 365, "days")] | None = None


class Scenarios(Group):
    """The failure scenarios of a key."""

    unshared: Scenario
    disabled: Scenario
    pending_deletion: Scenario
    deleted: Scenario
    unusable: Scenario


class AliasMoves(Group):
    """Services whose resources keep their key when an alias moves."""

    services: Annotated[tuple[Text, ...], Field(min_length=1)]
    effect: AnyText
    fix: AnyText


class Profile(Group):
    """One vendor's requirements."""

    id: Annotated[str, _NAME]
    vendor: Text
    title: Text
    severity: Severity
    source: AnyText = ""
    about: AnyText
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    keys: Keys = Field(default_factory=dict, validate_default=True)
    tags: Tags | None = None
    needs: Annotated[tuple[Need, ...], Field(min_length=1)]
    role: Role | None = None
    scenarios: Scenarios
    alias_moves: AliasMoves | None = None
    logging: AnyText = ""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield errors for placeholders without a parameter, and for values of found_by without the field that they need."""
        parameters = data.get("parameters")
        known = {*BUILT_IN, *(parameters if isinstance(parameters, Mapping) else ())}
        for path, name in _placeholders({key: value for key, value in data.items() if key != "parameters"}, ()):
            if name not in known:
                yield validation_error(
                    path, f"a placeholder that is a parameter or one of {', '.join(sorted(BUILT_IN))}"
                )
        tags = data.get("tags")
        chosen_by = tags.get("chosen_by") if isinstance(tags, Mapping) else None
        if isinstance(chosen_by, str) and chosen_by not in known - BUILT_IN:
            yield validation_error(("tags", "chosen_by"), "the name of a parameter")
        keys = data.get("keys")
        found_by = keys.get("found_by") if isinstance(keys, Mapping) else None
        if found_by == "vendor_account" and "vendor_account" not in known:
            yield validation_error(("keys", "found_by"), "a parameter vendor_account, which found_by needs")
        if found_by in {"role", "account_of_role"} and not data.get("role"):
            yield validation_error(("keys", "found_by"), "a role, which found_by needs")


def load_profiles(directories: Iterable[Path] = ()) -> dict[str, Profile]:
    """The profiles by ID: shipped, and from directories. Raises VendorProfileError with file and line."""
    profiles = dict(_shipped())
    origins = {name: f"{name}.yaml" for name in profiles}
    for file in _own(directories):
        profile = read_profile(file)
        if profile.id in profiles:
            raise VendorProfileError(
                f"{file}: profile {profile.id} is already defined in {origins[profile.id]}: give it another ID"
            )
        profiles[profile.id], origins[profile.id] = profile, file.name
    return profiles


def read_profile(file: Path) -> Profile:
    """Read one profile. Raises VendorProfileError with all its problems."""
    source = read(file, {})
    problems = list(source.problems)
    if source.values is not None:
        try:
            profile = Profile.model_validate(source.values)
        except ValidationError as error:
            problems += validation_problems(source, error)
        else:
            if not problems:
                return profile
    raise VendorProfileError(str(SettingsError(problems)))


@cache
def _shipped() -> Mapping[str, Profile]:
    """The shipped profiles by ID, which is the name of the file; parsed once per process."""
    with resources.as_file(resources.files("reports.vendors").joinpath("profiles")) as folder:
        return {file.stem: read_profile(file) for file in sorted(folder.glob("*.yaml"))}


def _own(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        if not directory.is_dir():
            raise VendorProfileError(
                f"vendors.directories names {directory}, which is not a directory: create it, or correct the setting"
            )
        yield from sorted(directory.glob("*.yaml"))


def _placeholders(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _placeholders(str(key), path)
            yield from _placeholders(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _placeholders(inner, (*path, index))
    elif isinstance(value, str):
        yield from ((path, name) for name in PLACEHOLDER.findall(value))
