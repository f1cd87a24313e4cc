"""The result of a vendor check: one row of the table ``internal.vendor_check``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.severities import SEVERITIES
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.queries import KeyRow


class CheckResult(StrEnum):
    """The result for a key or a finding."""

    ACCESSIBLE = "accessible"
    DENIED_BY_TAG = "denied_by_tag"
    NOT_SELECTED = "not_selected"
    BLOCKED = "blocked_by_policy"
    BROKEN = "broken"
    OVER_SHARED = "over_shared"
    UNKNOWN = "unknown"
    WRONG = "wrong"
    """A finding: something violates a requirement of the profile."""
    ADVICE = "advice"
    """A finding: something differs from a recommendation of the vendor."""
    NOT_CONFIGURED = "not_configured"
    """No key is checked: the settings do not name the profile, and its defaults match no key."""


FAILING = frozenset({CheckResult.BLOCKED, CheckResult.BROKEN, CheckResult.OVER_SHARED, CheckResult.WRONG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row. ``subject_type`` is key, finding or profile; ``check_name`` identifies the check."""

    profile: str
    vendor: str
    subject_type: str
    check_name: str
    result: CheckResult
    severity: str
    reason: str
    account_id: str | None = None
    account_name: str | None = None
    region: str | None = None
    key_arn: str | None = None
    key_alias: str | None = None
    subject: str | None = None
    fix: str = ""
    statement: str | None = None
    evidence: str | None = None
    deadline: dt.datetime | None = None
    required: str | None = None
    """The required key properties, as JSON."""
    since: dt.datetime | None = None

    def row(self) -> dict[str, Any]:
        """The columns by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def of_key(
    assignment: ProfileAssignment, key: KeyRow, result: CheckResult, reason: str, fix: str = "", **more: Any
) -> Check:
    """The check of a key's access: failures have the profile's severity, unknown is medium, other results are info."""
    severity: str = (
        assignment.profile.severity if result in FAILING else "medium" if result is CheckResult.UNKNOWN else "info"
    )
    if result is CheckResult.OVER_SHARED and SEVERITIES.index(severity) < SEVERITIES.index("high"):
        severity = "high"  # excess access breaks no service, so it ranks below failures
    stale = " This is the last known state." if key.freshness == "stale" else ""
    return check_of(
        assignment, "access", reason + stale, subject_type="key", result=result, severity=severity, fix=fix,
        account_id=key.account_id, account_name=key.account_name, region=key.region, key_arn=key.key_arn,
        key_alias=key.alias, required=assignment.required(), **more,
    )  # fmt: skip


def check_of(
    assignment: ProfileAssignment, check_name: str, reason: str, *,
    subject_type: str = "finding", result: str = CheckResult.WRONG, severity: str | None = None, **more: Any,
) -> Check:  # fmt: skip
    """A check, by default a finding with the profile's severity; ``more`` are further columns.

    Except for broken keys, unconfigured profiles have at most medium severity: they may match keys with another purpose.
    """
    severity = severity or assignment.profile.severity
    if not assignment.configured and result != CheckResult.BROKEN and severity in SEVERITIES[:2]:
        severity = "medium"
    return Check(
        profile=assignment.name, vendor=assignment.profile.vendor, subject_type=subject_type, check_name=check_name,
        result=CheckResult(result), severity=severity, reason=reason[:1].upper() + reason[1:], **more,
    )  # fmt: skip


def join_list(items: Iterable[str], limit: int = 4) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    texts = list(items)
    if len(texts) > limit:
        return f"{', '.join(texts[:limit])} and {len(texts) - limit} more"
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def date_text(moment: dt.datetime | None) -> str:
    """The date as a text, or ``an unknown date``."""
    return f"{moment:%Y-%m-%d}" if moment else "an unknown date"
