"""Resources that use keys, what they say of their key, and which key that is."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class KeyClass(StrEnum):
    """What kind of key a reference leads to."""

    CUSTOMER = "customer"
    """A customer managed key that was crawled."""
    AWS_MANAGED = "aws_managed"
    """An AWS managed key of the account (``alias/aws/...``)."""
    AWS_OWNED = "aws_owned"
    """A key that AWS owns; it is in no account's inventory."""
    NONE = "none"
    """Not encrypted with any key."""
    NOT_CRAWLED = "not_crawled"
    """A key of an account or region that was not crawled."""
    DANGLING = "dangling"
    """A key or alias that no longer exists: the complete listing of its account and region does not show it."""
    UNKNOWN = "unknown"


class Form(StrEnum):
    """How a resource names its key."""

    KEY_ARN = "key_arn"
    KEY_ID = "key_id"
    ALIAS_NAME = "alias_name"
    ALIAS_ARN = "alias_arn"
    OMITTED = "omitted"
    SENTINEL = "sentinel"
    MALFORMED = "malformed"


class Resource(VersionedTable):
    """A resource that can hold data under a key."""

    __tablename__ = "resource"
    natural_key = ("resource_arn",)
    listing_key = ("account_id", "listed_in", "resource_type")

    resource_arn: Mapped[str]
    resource_type: Mapped[str]
    """CloudFormation's type name where there is one."""
    account_id: Mapped[str]
    region: Mapped[str]
    listed_in: Mapped[str]
    """The region whose listing shows it; ``global`` for buckets."""
    name: Mapped[str]
    status: Mapped[str | None]
    encryption: Mapped[str | None]
    """What the service says of encryption, in its own words: ``sse-kms``, ``AES256``, ``true`` ..."""
    created_at: Mapped[dt.datetime | None]
    deletion_at: Mapped[dt.datetime | None]
    """When its deletion was asked for or is due, as the service tells it."""
    details: Mapped[str | None]
    """JSON object of the further fields that the declaration names."""


class KeyReference(VersionedTable):
    """What a resource says of one of its keys, as received and as read."""

    __tablename__ = "key_reference"
    natural_key = ("resource_arn", "role", "position")
    listing_key = ("resource_arn",)
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    role: Mapped[str]
    """What the key does for the resource: storage, secret, performance-insights ..."""
    position: Mapped[int]
    """0, 1 ... where a role can have several keys."""
    form: Mapped[str]
    encryption: Mapped[str | None]
    """What the service says of this encryption, in its own words: ``sse-kms``, ``AES256``, ``true`` ..."""
    raw: Mapped[str | None]
    """The value as AWS returned it."""
    target_arn: Mapped[str | None]
    """The key ARN or alias ARN that the value means in the referring account and region."""
    target_account: Mapped[str | None]
    target_region: Mapped[str | None]
    stated_class: Mapped[str | None]
    """Set when the value itself decides: ``none``, ``aws_owned`` or ``unknown``."""
    reason: Mapped[str | None]


class KeyUsage(VersionedTable):
    """The key that a reference leads to, resolved against the aliases and keys that are known (crawler.key_references)."""

    __tablename__ = "key_usage"
    natural_key = ("resource_arn", "role", "position")
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    role: Mapped[str]
    position: Mapped[int]
    key_arn: Mapped[str | None]
    key_class: Mapped[str]
    reason: Mapped[str | None]
    """Why the class is what it is, where that is not obvious."""
