"""Principals and IAM policies of accounts, and resource policies.

All of IAM comes from iam:GetAccountAuthorizationDetails, called once per account.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.versioned import VersionedTable

AWS_ACCOUNT = "aws"
"""The account of AWS managed policies, as in their ARNs."""

_OF_OWNER = (("owner_arn", "iam_principal", "arn"), ("owner_arn", "iam_group", "arn"))


class IamScan(VersionedTable):
    """The account's IAM was read completely, and collection is still enabled. A later failure is a separate gap."""

    natural_key = ("account_id",)
    listing_key = ("account_id",)

    account_id: Mapped[str]


class IamPrincipal(VersionedTable):
    """A user or role. The last use of a role is omitted, because it changes daily."""

    natural_key = ("arn",)
    listing_key = ("account_id",)

    arn: Mapped[str]
    account_id: Mapped[str]
    type: Mapped[str]
    """``user`` or ``role``."""
    name: Mapped[str]
    path: Mapped[str | None]
    unique_id: Mapped[str | None]
    """``AIDA...`` or ``AROA...``: a key policy shows it after the principal was deleted."""
    created_at: Mapped[dt.datetime | None]
    permissions_boundary_arn: Mapped[str | None]
    policy_hash: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """The trust policy of a role; NULL for users."""


class IamGroup(VersionedTable):
    """A group of users."""

    natural_key = ("arn",)
    listing_key = ("account_id",)

    arn: Mapped[str]
    account_id: Mapped[str]
    name: Mapped[str]
    """Unique in the account."""
    path: Mapped[str | None]
    unique_id: Mapped[str | None]
    created_at: Mapped[dt.datetime | None]


class IamMembership(VersionedTable):
    """A user is in a group. AWS returns the group's name, not its ARN; ``iam_group`` has it by account and name."""

    natural_key = ("user_arn", "group_name")
    listing_key = ("account_id",)
    parents = (("user_arn", "iam_principal", "arn"),)

    user_arn: Mapped[str]
    group_name: Mapped[str]
    account_id: Mapped[str]


class IamAttachment(VersionedTable):
    """A managed policy is attached to a user, role or group."""

    natural_key = ("owner_arn", "policy_arn")
    listing_key = ("account_id",)
    parents = _OF_OWNER

    owner_arn: Mapped[str]
    policy_arn: Mapped[str]
    account_id: Mapped[str]


class IamInlinePolicy(VersionedTable):
    """A policy that is part of a user, role or group."""

    natural_key = ("owner_arn", "name")
    listing_key = ("account_id",)
    parents = _OF_OWNER

    owner_arn: Mapped[str]
    name: Mapped[str]
    account_id: Mapped[str]
    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16))


class IamManagedPolicy(VersionedTable):
    """The default version of a managed policy: of the account, or of AWS if an account uses it.

    An AWS managed policy is one fact for all accounts, and no account's listing proves that it was deleted.
    """

    natural_key = ("policy_arn",)
    listing_key = ("account_id",)

    policy_arn: Mapped[str]
    account_id: Mapped[str]
    """:data:`AWS_ACCOUNT` for AWS managed policies."""
    name: Mapped[str]
    default_version: Mapped[str]
    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16))


class ResourcePolicy(VersionedTable):
    """The resource policy of a resource, for types with such an operation (secretsmanager:GetResourcePolicy)."""

    natural_key = ("resource_arn",)
    parents = (("resource_arn", "resource", "resource_arn"),)

    resource_arn: Mapped[str]
    policy_hash: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """NULL: the resource has no policy, which is a known value."""
