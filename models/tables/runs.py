"""Runs, their coverage and gaps, and delivered reports."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Self

from sqlalchemy import ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from models.run_status import RunStatus as RunStatus  # noqa: PLC0414  (exported with its table)
from models.versioned import Base, VersionedTable


class Outcome(StrEnum):
    """The outcome of one account-region in one run."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    EXCLUDED = "excluded"
    """Excluded by the configuration."""
    SUSPENDED = "suspended"
    """The account is suspended, closed or not yet active."""
    LEFT = "left"
    """The account is no longer in the organization."""
    DISABLED = "disabled"
    """The region is not enabled in the account."""
    NOT_IN_RUN = "not_in_run"
    """The run was limited to other accounts or regions, and no earlier run has read it."""


class Run(Base):
    """One crawl of the organization."""

    run_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    started_at: Mapped[dt.datetime]
    finished_at: Mapped[dt.datetime | None]
    status: Mapped[str]
    version: Mapped[str]
    caller_arn: Mapped[str | None]
    partition: Mapped[str | None]
    organization_id: Mapped[str | None]
    management_account_id: Mapped[str | None]
    accounts: Mapped[int] = mapped_column(default=0)
    scopes: Mapped[int] = mapped_column(default=0)
    calls: Mapped[int] = mapped_column(default=0)
    gaps: Mapped[int] = mapped_column(default=0)
    message: Mapped[str | None]
    only_accounts: Mapped[str | None]
    """The accounts that the run was limited to, separated by commas; NULL: all."""
    only_regions: Mapped[str | None]
    """The regions that the run was limited to; NULL: all."""


class ScopeCoverage(Base):
    """The coverage of one account-region in one run, committed together with its facts.

    Region ``global`` stands for the part of an account that has no region, such as its buckets. Region ``*`` stands for an
    account that was not crawled.
    """

    run_id: Mapped[int] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    reason: Mapped[str | None]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    calls: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=0)
    gaps: Mapped[int] = mapped_column(default=0)
    read_run_id: Mapped[int | None]
    """The earlier run that this row is from, if the account-region was not part of the run (``kmsledger crawl --account``)."""


class CrawlLock(Base):
    """The crawl that writes to this database: at most one row."""

    lock_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.run_id"))
    host: Mapped[str]
    process_id: Mapped[int] = mapped_column(Integer)
    acquired_at: Mapped[dt.datetime]
    heartbeat: Mapped[dt.datetime]


class Cause(StrEnum):
    """The cause of a gap, classified once, in crawler.aws.errors; ``text`` is the cause as a clause, for people."""

    text: str

    def __new__(cls, value: str, text: str) -> Self:
        """A member: its value, and its text."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    KEY_POLICY = "key_policy", "the key policy neither delegates the request to IAM nor allows it to the crawler's role"
    ROLE_PERMISSION = "role_permission", "the crawler's role lacks the permission"
    SERVICE_CONTROL_POLICY = "service_control_policy", "a service control policy denies the request"
    RESOURCE_CONTROL_POLICY = "resource_control_policy", "a resource control policy denies the request"
    SESSION_POLICY = "session_policy", "the session policy does not allow the request"
    PERMISSIONS_BOUNDARY = (
        "permissions_boundary",
        "the permissions boundary of the crawler's role does not allow the request",
    )
    EXPLICIT_DENY = "explicit_deny", "a policy explicitly denies the request"
    DENIED = "denied", "access was denied without a reason"
    ROLE_MISSING_OR_UNTRUSTED = "role_missing_or_untrusted", "the role does not exist or does not trust the crawler"
    TRUST = (
        "trust",
        "the role exists, but its trust policy does not admit the crawler (principal, external ID or another condition)",
    )
    ASSUME_ROLE_PERMISSION = (
        "assume_role_permission",
        "the crawler's identity is not allowed to call sts:AssumeRole on the role",
    )
    EXTERNAL_ID = "external_id", "the role's trust policy requires another external ID"
    ACCOUNT_SUSPENDED = "account_suspended", "the account is suspended or closed"
    THROTTLED = "throttled", "AWS throttled the request until the retries were exhausted"
    SERVICE_ERROR = "service_error", "the service failed until the retries were exhausted"
    UNREACHABLE = "unreachable", "the endpoint could not be reached"
    REGION_DISABLED = "region_disabled", "the region is not enabled in the account"
    REGION_EXCLUDED = "region_excluded", "the configuration excludes the region"
    DISABLED_BY_CONFIG = "disabled_by_config", "the configuration disables the request"
    UNSUPPORTED = "unsupported", "the endpoint does not support the operation"
    NOT_FOUND = "not_found", "the resource no longer existed"
    EXPIRED = "expired", "the crawler's credentials expired and could not be renewed"
    CREDENTIALS = "credentials", "AWS did not accept the crawler's credentials"
    REJECTED = "rejected", "the service rejected the request"
    INVALID_RESPONSE = "invalid_response", "the response contradicts the API"
    DEADLINE = "deadline", "the deadline was exceeded"
    WORKER_DIED = "worker_died", "the worker processes crashed"


class Gap(VersionedTable):
    """A request that AWS did not answer, with its cause. It is open as long as it persists; ``valid_from`` gives its age.

    ``subject`` is the ARN or name in the request, empty for a listing. ``cause`` is one of
    :class:`models.tables.runs.Cause`.
    """

    natural_key = ("account_id", "region", "service", "operation", "subject")
    listing_key = ("account_id", "region")
    ignored_columns = frozenset({"message"})

    account_id: Mapped[str]
    region: Mapped[str]
    service: Mapped[str]
    operation: Mapped[str]
    subject: Mapped[str]
    action: Mapped[str]
    cause: Mapped[str]
    code: Mapped[str]
    message: Mapped[str]


class Delivery(Base):
    """The delivery log: a report is sent once per run and recipient. ``status`` is an ``OutcomeStatus`` of reports.notify."""

    run_id: Mapped[int] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    report: Mapped[str] = mapped_column(primary_key=True)
    recipient: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    detail: Mapped[str]
    sent_at: Mapped[dt.datetime]
