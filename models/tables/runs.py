"""Runs, their coverage, and what was delivered of them."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy import ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from models.versioned import Base, VersionedTable


class RunStatus(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    """Ended, with gaps."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"
    """Stays only where an interval begins or ends with it; what it tells is no longer whole."""


class Outcome(StrEnum):
    """What became of one account in one region in one run."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    EXCLUDED = "excluded"
    """Left out by the configuration."""
    SUSPENDED = "suspended"
    """The account is suspended, closed or not yet active."""
    LEFT = "left"
    """The account is no longer in the organization."""
    DISABLED = "disabled"
    """The region is not enabled in the account."""


class Run(Base):
    """One crawl of the organization."""

    __tablename__ = "run"

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


class ScopeRun(Base):
    """The coverage of one account in one region in one run; committed together with what was found there.

    Region ``global`` is the account's own, region-less part (its buckets). Region ``*`` stands for the whole of an account
    that was not crawled.
    """

    __tablename__ = "scope_run"

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


class CrawlLock(Base):
    """Who crawls into this database: at most one row."""

    __tablename__ = "crawl_lock"

    lock_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.run_id"))
    host: Mapped[str]
    process_id: Mapped[int] = mapped_column(Integer)
    since: Mapped[dt.datetime]
    heartbeat: Mapped[dt.datetime]


class Cause(StrEnum):
    """Why something is not known. Decided once, in crawler.aws.errors."""

    KEY_POLICY = "key_policy"
    ROLE_PERMISSION = "role_permission"
    SERVICE_CONTROL_POLICY = "service_control_policy"
    RESOURCE_CONTROL_POLICY = "resource_control_policy"
    SESSION_POLICY = "session_policy"
    PERMISSIONS_BOUNDARY = "permissions_boundary"
    EXPLICIT_DENY = "explicit_deny"
    DENIED = "denied"
    ROLE_MISSING_OR_UNTRUSTED = "role_missing_or_untrusted"
    TRUST = "trust"
    ASSUME_ROLE_PERMISSION = "assume_role_permission"
    EXTERNAL_ID = "external_id"
    ACCOUNT_SUSPENDED = "account_suspended"
    THROTTLED = "throttled"
    SERVICE_ERROR = "service_error"
    UNREACHABLE = "unreachable"
    REGION_DISABLED = "region_disabled"
    REGION_EXCLUDED = "region_excluded"
    NOT_ASKED = "not_asked"
    UNSUPPORTED = "unsupported"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"
    CREDENTIALS = "credentials"
    REFUSED = "refused"
    MALFORMED = "malformed"
    DEADLINE = "deadline"
    WORKER_DIED = "worker_died"

    @property
    def text(self) -> str:
        """The cause in words, for people."""
        return _CAUSE_TEXTS[self]


_CAUSE_TEXTS = {
    Cause.KEY_POLICY: "the key policy does not let the account's IAM policies decide, nor names our role",
    Cause.ROLE_PERMISSION: "our role lacks the permission",
    Cause.SERVICE_CONTROL_POLICY: "a service control policy denies it",
    Cause.RESOURCE_CONTROL_POLICY: "a resource control policy denies it",
    Cause.SESSION_POLICY: "the session policy does not allow it",
    Cause.PERMISSIONS_BOUNDARY: "the permissions boundary of our role does not allow it",
    Cause.EXPLICIT_DENY: "a policy denies it explicitly",
    Cause.DENIED: "access was denied without a reason",
    Cause.ROLE_MISSING_OR_UNTRUSTED: "the role does not exist or does not trust us",
    Cause.TRUST: "the role exists, but its trust policy does not admit us (principal, external id or another condition)",
    Cause.ASSUME_ROLE_PERMISSION: "our own identity may not call sts:AssumeRole on the role",
    Cause.EXTERNAL_ID: "the role's trust policy asks for another external id",
    Cause.ACCOUNT_SUSPENDED: "the account is suspended or closed",
    Cause.THROTTLED: "AWS throttled us until the tries were used up",
    Cause.SERVICE_ERROR: "the service failed until the tries were used up",
    Cause.UNREACHABLE: "the endpoint could not be reached",
    Cause.REGION_DISABLED: "the region is not enabled in the account",
    Cause.REGION_EXCLUDED: "the configuration excludes the region",
    Cause.NOT_ASKED: "the configuration leaves the question out",
    Cause.UNSUPPORTED: "the endpoint does not offer the operation",
    Cause.NOT_FOUND: "it was gone when it was asked for",
    Cause.EXPIRED: "our credentials expired and could not be renewed",
    Cause.CREDENTIALS: "our credentials were not accepted",
    Cause.REFUSED: "the service refused the question",
    Cause.MALFORMED: "the answer could not be understood",
    Cause.DEADLINE: "the time set for it was used up",
    Cause.WORKER_DIED: "the processes that crawled it died",
}


class Gap(VersionedTable):
    """Something that could not be learned, and why. Open as long as it persists, so its first run tells its age.

    ``subject`` is the ARN or name asked about, empty when a whole listing is missing. ``cause`` is one of
    :class:`models.tables.runs.Cause`.
    """

    __tablename__ = "gap"
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
    """What was sent to whom, so that a report is sent once per run and recipient."""

    __tablename__ = "delivery"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.run_id"), primary_key=True)
    report: Mapped[str] = mapped_column(primary_key=True)
    recipient: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    detail: Mapped[str]
    sent_at: Mapped[dt.datetime]
