"""Accounts of the organization and their regions."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.orm import Mapped, mapped_column

from models.store.redaction import NAME, PATH
from models.versioned import VersionedTable


class Account(VersionedTable):
    """An account, as AWS Organizations or the configuration lists it (organizations:ListAccounts).

    An account that left the organization stays, with state ``LEFT``, and its facts are kept.
    """

    natural_key = ("account_id",)

    account_id: Mapped[str]
    name: Mapped[str | None] = mapped_column(info=NAME)
    email: Mapped[str | None] = mapped_column(info=NAME)
    arn: Mapped[str | None]
    state: Mapped[str | None]
    ou_path: Mapped[str | None] = mapped_column(info=PATH)
    """Names from the root down, as ``/Production/Web``."""
    ou_ids: Mapped[str | None]
    """Ids from the root down, as ``r-abcd/ou-abcd-11111111``."""
    joined_at: Mapped[dt.datetime | None]
    is_management: Mapped[bool]
    selection: Mapped[str]
    """``crawled``, or the reason why not: ``excluded``, ``suspended``, ``left``."""


class AccountRegion(VersionedTable):
    """A region of an account (account:ListRegions or ec2:DescribeRegions)."""

    natural_key = ("account_id", "region")
    listing_key = ("account_id",)

    account_id: Mapped[str]
    region: Mapped[str]
    status: Mapped[str]
    """The opt-in status that AWS returned, ``unknown`` if the request failed."""
    selection: Mapped[str]
    """``crawled``, ``excluded`` (by the configuration) or ``disabled``."""
