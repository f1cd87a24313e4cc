"""The settings of vendor profiles: what a vendor's document leaves to you, and where your own profiles are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.settings.types import AccountId, AnyText, FilePath, Group, Text, Unset


class VendorUse(Group):
    """One use of a vendor's profile: its accounts and keys here, and the profile's parameters.

    `profile` is the profile's id where the name in the settings is another; `keys` are aliases (alias/NAME), ARNs or ids.
    """

    profile: Annotated[Text | None, Unset] = None
    accounts: tuple[AccountId, ...] = ()
    keys: tuple[Text, ...] = ()
    parameters: Mapping[str, AnyText] = Field(default_factory=dict, repr=False)  # external ids are among them


def _nothing_set(value: Any) -> Any:
    return {} if value is None else value


class VendorSettings(Group):
    """Vendor profiles: own directories beside the shipped profiles, and the uses of profiles by name."""

    directories: tuple[FilePath, ...] = ()
    profiles: Mapping[str, Annotated[VendorUse, BeforeValidator(_nothing_set)]] = Field(default_factory=dict)
