"""Resources that use keys, their key references, and the keys that the references resolve to."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class KeyClass(StrEnum):
    """The class of the key that a reference resolves to."""

    CUSTOMER = "customer"
    """A customer managed key that was crawled."""
    AWS_MANAGED = "aws_managed"
    """An AWS managed key of the account (``alias/aws/...``)."""
    AWS_OWNED = "aws_owned"
    """An AWS owned key; no account lists it."""
    NONE = "none"
    """Not encrypted with a KMS key."""
    NOT_CRAWLED = "not_crawled"
    """A key of an account or region that was not crawled."""
    DANGLING = "dangling"
    """A key or alias that no longer exists: a complete listing of its account and region does not contain it."""
    UNKNOWN = "unknown"


class Form(StrEnum):
    """The format in which a resource names its key."""

    KEY_ARN = "key_arn"
    KEY_ID = "key_id"
    ALIAS_NAME = "alias_name"
    ALIAS_ARN = "alias_arn"
    OMITTED = "omitted"
    SENTINEL = "sentinel"
    MALFORMED = "malformed"


class Resource(VersionedTable):
    """A resource that can be encrypted with a key."""

    natural_key = ("resource_arn",)
    listing_key = ("account_id", "listing_region", "resource_type")

    resource_arn: Mapped[str]
    resource_type: Mapped[str]
    """The CloudFormation type name, if there is one."""
    account_id: Mapped[str]
    region: Mapped[str]
    listing_region: Mapped[str]
    """The region whose listing contains it; ``global`` for buckets."""
    name: Mapped[str]
    status: Mapped[str | None]
    encryption: Mapped[str | None]
    """The encryption as the service returns it: ``sse-kms``, ``AES256``, ``true`` ..."""
    created_at: Mapped[dt.datetime | None]
    deletion_at: Mapped[dt.datetime | None]
    """When its deletion was requested or is due, depending on the service."""
    details: Mapped[str | None]
    """JSON object with the further fields of the declaration."""


class KeyReference(VersionedTable):
    """A reference of a resource to one of its keys: the raw value and its parsed target."""

    natural_key = ("resource_arn", "role", "position")
    listing_key = ("resource_arn",)
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    role: Mapped[str]
    """The purpose of the key: storage, secret, performance-insights ..."""
    position: Mapped[int]
    """0, 1 ... for roles that can have several keys."""
    format: Mapped[str]
    encryption: Mapped[str | None]
    """This encryption as the service returns it: ``sse-kms``, ``AES256``, ``true`` ..."""
    raw_value: Mapped[str | None]
    """The value that AWS returned."""
    target_arn: Mapped[str | None]
    """The key ARN or alias ARN that the value denotes in the account and region of the resource."""
    target_account: Mapped[str | None]
    target_region: Mapped[str | None]
    declared_class: Mapped[str | None]
    """Set if the value alone determines the class: ``none``, ``aws_owned`` or ``unknown``."""
    reason: Mapped[str | None]


class ResourceReplica(VersionedTable):
    """A replica of a resource in another region, as its primary reports it (secretsmanager:DescribeSecret)."""

    natural_key = ("resource_arn", "replica_region")
    listing_key = ("resource_arn",)
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    """The primary."""
    replica_region: Mapped[str]
    status: Mapped[str | None]
    """``InSync``, ``InProgress``, ``Failed`` ..."""
    status_message: Mapped[str | None]
    raw_key: Mapped[str | None]
    """The key of the replica: an ARN, ID or alias in its region."""


class ResourceKey(VersionedTable):
    """The key that a reference resolves to, given the known aliases and keys (crawler.key_references)."""

    natural_key = ("resource_arn", "role", "position")
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    role: Mapped[str]
    position: Mapped[int]
    key_arn: Mapped[str | None]
    key_class: Mapped[str]
    reason: Mapped[str | None]
    """The reason for the class, if it is not obvious."""
