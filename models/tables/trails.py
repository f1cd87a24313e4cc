"""CloudTrail trails: where they are, whether they log, which events they select, and what an account sees of others' trails."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class _Described:
    """What cloudtrail:DescribeTrails tells of a trail, wherever it is seen."""

    name: Mapped[str | None]
    home_region: Mapped[str]
    """Where it was made; it can only be changed there."""
    is_multi_region: Mapped[bool | None]
    """It records every enabled region of its accounts, not just its home region."""
    is_organization: Mapped[bool | None]
    """It records every account of the organization."""
    log_validation: Mapped[bool | None]
    """Digest files prove that the log files were not changed."""
    kms_key: Mapped[str | None]
    """As AWS returned it; NULL: the logs are encrypted with keys of S3."""
    bucket: Mapped[str | None]
    has_custom_selectors: Mapped[bool | None]
    """False: it records the management events of every service, which is the default."""


class TrailListing(VersionedTable):
    """The trails of an account and region were listed whole, and are still asked for; a failed try is a gap beside it."""

    __tablename__ = "trail_listing"
    natural_key = ("account_id", "region")
    listing_key = ("account_id", "region")

    account_id: Mapped[str]
    region: Mapped[str]


class Trail(_Described, VersionedTable):
    """A trail, as its own account sees it in its home region."""

    __tablename__ = "trail"
    natural_key = ("trail_arn",)
    listing_key = ("account_id", "region")

    trail_arn: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    """The region whose listing shows it: its home region."""
    global_events: Mapped[bool | None]
    """Events of services without regions, as IAM, are recorded too."""
    log_group: Mapped[str | None]
    """The CloudWatch log group that gets the events too."""


class TrailShadow(_Described, VersionedTable):
    """A trail as it is seen elsewhere: in other regions, and an organization's in the accounts that it records.

    It proves that the trail records the account there. Whether it logs, and which events, is told to the trail's own account
    only.
    """

    __tablename__ = "trail_shadow"
    natural_key = ("account_id", "region", "trail_arn")
    listing_key = ("account_id", "region")

    account_id: Mapped[str]
    region: Mapped[str]
    trail_arn: Mapped[str]


class TrailStatus(VersionedTable):
    """Whether a trail logs (cloudtrail:GetTrailStatus). When it last delivered is left out: it changes by the minute."""

    __tablename__ = "trail_status"
    natural_key = ("trail_arn",)
    parents = (("trail_arn", "trail", "trail_arn"),)

    trail_arn: Mapped[str]
    logging: Mapped[bool | None]
    started_at: Mapped[dt.datetime | None]
    stopped_at: Mapped[dt.datetime | None]
    delivery_error: Mapped[str | None]
    """Why the last files could not be delivered to the bucket; NULL when they were."""


class TrailSelector(VersionedTable):
    """Which events a trail selects (cloudtrail:GetEventSelectors), as received; read in reports.mart.event_selectors."""

    __tablename__ = "trail_selector"
    natural_key = ("trail_arn",)
    parents = (("trail_arn", "trail", "trail_arn"),)

    trail_arn: Mapped[str]
    selectors: Mapped[str]
    """Canonical JSON object with the lists ``EventSelectors`` and ``AdvancedEventSelectors``; one of them is empty."""
