"""CloudTrail trails: properties, logging status, event selectors, and the shadow trails that an account sees."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class _Described:
    """The properties of a trail that cloudtrail:DescribeTrails returns in every account and region."""

    name: Mapped[str | None]
    home_region: Mapped[str]
    """The region in which it was created, and the only one in which it can be changed."""
    is_multi_region: Mapped[bool | None]
    """Whether it records every enabled region, not only its home region."""
    is_organization: Mapped[bool | None]
    """Whether it records every account of the organization."""
    log_validation: Mapped[bool | None]
    """Whether digest files prove that the log files were not changed."""
    kms_key: Mapped[str | None]
    """The value that AWS returned; NULL: the logs are encrypted with S3 managed keys."""
    bucket: Mapped[str | None]
    has_custom_selectors: Mapped[bool | None]
    """False: it records the management events of every service, the default."""


class TrailScan(VersionedTable):
    """The trails of an account-region were listed completely, and collection is still enabled. A failure is a separate gap."""

    natural_key = ("account_id", "region")
    listing_key = ("account_id", "region")

    account_id: Mapped[str]
    region: Mapped[str]


class Trail(_Described, VersionedTable):
    """A trail as returned in its own account and home region."""

    natural_key = ("trail_arn",)
    listing_key = ("account_id", "region")

    trail_arn: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    """The region whose listing contains it: its home region."""
    global_events: Mapped[bool | None]
    """Whether events of global services, such as IAM, are recorded."""
    log_group: Mapped[str | None]
    """The CloudWatch log group that also receives the events."""


class ShadowTrail(_Described, VersionedTable):
    """A trail as returned in other regions, and for an organization trail in the accounts that it records.

    It proves that the trail records the account and region. Only the trail's own account can read its status and selectors.
    """

    natural_key = ("account_id", "region", "trail_arn")
    listing_key = ("account_id", "region")

    account_id: Mapped[str]
    region: Mapped[str]
    trail_arn: Mapped[str]


class TrailStatus(VersionedTable):
    """Whether a trail logs (cloudtrail:GetTrailStatus). The time of the last delivery is omitted: it changes every minute."""

    natural_key = ("trail_arn",)
    parents = (("trail_arn", "trail", "trail_arn"),)

    trail_arn: Mapped[str]
    logging: Mapped[bool | None]
    started_at: Mapped[dt.datetime | None]
    stopped_at: Mapped[dt.datetime | None]
    delivery_error: Mapped[str | None]
    """Why the last log files could not be delivered to the bucket; NULL if they were."""


class TrailSelector(VersionedTable):
    """The event selectors of a trail (cloudtrail:GetEventSelectors), as received; reports.mart.event_selectors parses them."""

    natural_key = ("trail_arn",)
    parents = (("trail_arn", "trail", "trail_arn"),)

    trail_arn: Mapped[str]
    selectors: Mapped[str]
    """Canonical JSON object with the lists ``EventSelectors`` and ``AdvancedEventSelectors``; one of them is empty."""
