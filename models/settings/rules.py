"""The settings of rules, waivers and owners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import InitErrorDetails

from models.settings.types import (
    AccountId,
    AnyText,
    FilePath,
    Group,
    MemorySize,
    OneOrMore,
    Text,
    Unset,
    matching,
    seconds,
    validation_error,
)

OuPath = Annotated[str, matching(r"/|(/[^/]+)+", "the path of an organizational unit, such as /Prod/Payments")]
Threshold = Literal["critical", "high", "medium", "low", "info", "never"]


class RuleSettings(Group):
    """Directories with custom rules, disabled rule IDs, parameters (rule ID, parameter, value), waiver files, threshold.

    `timeout` (seconds, per rule) and `memory_limit` (bytes) limit custom rules.
    """

    directories: tuple[FilePath, ...] = ()
    timeout: Annotated[float, seconds(86_400)] = 300
    memory_limit: MemorySize = 2_000_000_000
    disable: tuple[Text, ...] = ()
    parameters: Mapping[str, Mapping[str, AnyText]] = Field(default_factory=dict)
    waivers: tuple[FilePath, ...] = ()
    fail_on: Threshold = "high"


class OwnerSettings(Group):
    """A rule for the owner of a resource: the value of one of its tags, its account, or an organizational unit above it."""

    tag: Annotated[Text | None, Unset] = None
    account: Annotated[tuple[AccountId, ...], OneOrMore] = ()
    ou: Annotated[OuPath | None, Unset] = None
    owner: Annotated[Text | None, Unset] = None

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield entries without exactly one criterion, and an owner that is missing or combined with a tag."""
        given = [name for name in ("tag", "account", "ou") if data.get(name)]
        if len(given) != 1:
            yield validation_error(tuple(given[1:2]), "one of tag, account and ou in each entry")
        elif given == ["tag"] and data.get("owner"):
            yield validation_error(("owner",), "no owner together with a tag, whose value is the owner")
        elif given != ["tag"] and not data.get("owner"):
            yield validation_error((given[0],), f"an owner together with {given[0]}")
