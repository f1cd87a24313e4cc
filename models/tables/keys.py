"""KMS keys and their properties: one table per request, so that a gap in one does not affect the others."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Index, Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.versioned import Base, VersionedTable

OF_KEY = (("key_arn", "key", "key_arn"),)


class Key(VersionedTable):
    """A key exists (kms:ListKeys). Its ARN identifies it."""

    natural_key = ("key_arn",)
    listing_key = ("account_id", "region")

    key_arn: Mapped[str]
    key_id: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]


class KeyMetadata(VersionedTable):
    """The metadata of a key (kms:DescribeKey)."""

    natural_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    manager: Mapped[str | None]
    """``CUSTOMER`` or ``AWS``."""
    state: Mapped[str | None]
    enabled: Mapped[bool | None]
    description: Mapped[str | None]
    key_usage: Mapped[str | None]
    key_spec: Mapped[str | None]
    origin: Mapped[str | None]
    created_at: Mapped[dt.datetime | None]
    deletion_date: Mapped[dt.datetime | None]
    pending_window_days: Mapped[int | None]
    material_expires_at: Mapped[dt.datetime | None]
    expiration_model: Mapped[str | None]
    multi_region: Mapped[bool | None]
    multi_region_type: Mapped[str | None]
    """``PRIMARY`` or ``REPLICA``."""
    primary_arn: Mapped[str | None]
    replica_arns: Mapped[str | None]
    """JSON list, sorted."""
    custom_key_store_id: Mapped[str | None]
    cloud_hsm_cluster_id: Mapped[str | None]
    xks_key_id: Mapped[str | None]
    key_material_id: Mapped[str | None]
    algorithms: Mapped[str | None]
    """JSON object with the encryption, signing, key agreement and MAC algorithms that the key supports."""


class PolicyDocument(Base):
    """A policy text, stored once for all keys, principals and resources that have it."""

    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    canonical: Mapped[str]
    """Canonical JSON, or the text as received when it is not JSON."""
    received: Mapped[str]
    """The text that AWS returned first."""


class KeyPolicy(VersionedTable):
    """The key policy of a key (kms:GetKeyPolicy, policy name ``default``)."""

    natural_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16))


class KeyGrant(VersionedTable):
    """A grant on a key (kms:ListGrants)."""

    natural_key = ("key_arn", "grant_id")
    listing_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    grant_id: Mapped[str]
    name: Mapped[str | None]
    grantee_principal: Mapped[str | None]
    grantee_service_principal: Mapped[str | None]
    retiring_principal: Mapped[str | None]
    retiring_service_principal: Mapped[str | None]
    issuing_account: Mapped[str | None]
    operations: Mapped[str]
    """JSON list, sorted."""
    constraints: Mapped[str | None]
    """JSON object: EncryptionContextSubset, EncryptionContextEquals, SourceArn."""
    created_at: Mapped[dt.datetime | None]


class KeyRotation(VersionedTable):
    """Automatic rotation of a key (kms:GetKeyRotationStatus)."""

    natural_key = ("key_arn",)
    parents = OF_KEY
    # If DescribeKey is denied in one run, the key still cannot rotate, and only the known reason differs.
    ignored_columns = frozenset({"reason"})

    key_arn: Mapped[str]
    status: Mapped[str]
    """``enabled``, ``disabled`` or ``not_applicable``."""
    reason: Mapped[str | None]
    """Why rotation does not apply."""
    period_days: Mapped[int | None]
    next_rotation_at: Mapped[dt.datetime | None]
    on_demand_started_at: Mapped[dt.datetime | None]


class KeyRotationEvent(VersionedTable):
    """A past rotation of a key (kms:ListKeyRotations)."""

    natural_key = ("key_arn", "rotated_at")
    listing_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    rotated_at: Mapped[dt.datetime]
    rotation_type: Mapped[str | None]
    """``AUTOMATIC`` or ``ON_DEMAND``."""
    key_material_id: Mapped[str | None]
    key_material_state: Mapped[str | None]


class KeyLastUse(VersionedTable):
    """The last use of a key (kms:GetKeyLastUsage). Without a use, operation and time are NULL."""

    natural_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    operation: Mapped[str | None]
    """``Decrypt``, ``GenerateDataKey`` ..."""
    used_at: Mapped[dt.datetime | None]
    cloudtrail_event_id: Mapped[str | None]
    tracking_started_at: Mapped[dt.datetime | None]
    """When AWS started to track the use of this key: the key's creation, or the start of tracking if that is later."""
    key_created_at: Mapped[dt.datetime | None]


class KeyLastUseGap(VersionedTable):
    """Why the last use of a key could not be read. Open until a poll succeeds; earlier values stay."""

    natural_key = ("key_arn",)
    listing_key = ("key_arn",)
    parents = OF_KEY
    ignored_columns = frozenset({"message"})

    key_arn: Mapped[str]
    action: Mapped[str]
    cause: Mapped[str]
    """One of :class:`models.tables.runs.Cause`."""
    code: Mapped[str]
    message: Mapped[str]


class KeyLastUsePoll(Base):
    """The time of the last poll of a key's last use, successful or denied. It determines the polling order."""

    __table_args__ = (Index(None, "account_id", "region"),)

    key_arn: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    region: Mapped[str]
    polled_at: Mapped[dt.datetime]
    run_id: Mapped[int] = mapped_column(Integer)
    """The run of the poll, which may have been pruned since."""


class Alias(VersionedTable):
    """An alias (kms:ListAliases). An alias without a target is a predefined AWS alias that was never used."""

    natural_key = ("alias_arn",)
    listing_key = ("account_id", "region")

    alias_arn: Mapped[str]
    alias_name: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    target_key_id: Mapped[str | None]
    target_key_arn: Mapped[str | None]
    created_at: Mapped[dt.datetime | None]
    updated_at: Mapped[dt.datetime | None]


class CustomKeyStore(VersionedTable):
    """A CloudHSM or external key store (kms:DescribeCustomKeyStores), without its secrets."""

    natural_key = ("account_id", "region", "store_id")
    listing_key = ("account_id", "region")

    account_id: Mapped[str]
    region: Mapped[str]
    store_id: Mapped[str]
    name: Mapped[str | None]
    store_type: Mapped[str | None]
    connection_state: Mapped[str | None]
    connection_error: Mapped[str | None]
    cloud_hsm_cluster_id: Mapped[str | None]
    xks_connectivity: Mapped[str | None]
    created_at: Mapped[dt.datetime | None]


class Tag(VersionedTable):
    """A tag of a key, an account, a resource or an IAM user or role (kms:ListResourceTags and the listings that carry tags)."""

    natural_key = ("resource_arn", "tag_key")
    listing_key = ("resource_arn",)
    parents = (
        ("resource_arn", "key", "key_arn"),
        ("resource_arn", "resource", "resource_arn"),
        ("resource_arn", "iam_principal", "arn"),
    )

    resource_arn: Mapped[str]
    tag_key: Mapped[str]
    tag_value: Mapped[str]
