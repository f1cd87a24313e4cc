"""The settings of vendor profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.settings.types import AccountId, AnyText, FilePath, Group, Text, Unset


class VendorUse(Group):
    """An assignment of a vendor profile to accounts and keys, with the parameters of the profile.

    `profile` is the ID of the profile if it differs from the name of the assignment; `keys` are aliases (alias/NAME), ARNs or
    IDs.
    """

    profile: Annotated[Text | None, Unset] = None
    accounts: tuple[AccountId, ...] = ()
    keys: tuple[Text, ...] = ()
    parameters: Mapping[str, AnyText] = Field(default_factory=dict, repr=False)  # parameters can contain external IDs


def _nothing_set(value: Any) -> Any:
    return {} if value is None else value


class VendorSettings(Group):
    """Directories with custom profiles, and the profile assignments by name."""

    directories: tuple[FilePath, ...] = ()
    profiles: Mapping[str, Annotated[VendorUse, BeforeValidator(_nothing_set)]] = Field(default_factory=dict)
