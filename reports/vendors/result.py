"""What a vendor check says: one row of the table `vendor_checks`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.severities import SEVERITIES
from reports.vendors.assignments import Use
from reports.vendors.queries import KeyRow


class Verdict(StrEnum):
    """How a key stands to a profile, and what a finding beside the keys says."""

    ACCESSIBLE = "accessible"
    DENIED_BY_TAG = "denied_by_tag"
    NOT_SELECTED = "not_selected"
    BLOCKED = "blocked_by_policy"
    BROKEN = "broken"
    OVER_SHARED = "over_shared"
    UNKNOWN = "unknown"
    WRONG = "wrong"
    """A finding: something is not as the profile asks."""
    ADVICE = "advice"
    """A finding: the vendor recommends something else."""
    NOT_CONFIGURED = "not_configured"
    """No key is checked: the settings do not name the profile, and nothing that its document fixes was found."""


FAILING = frozenset({Verdict.BLOCKED, Verdict.BROKEN, Verdict.OVER_SHARED, Verdict.WRONG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row. ``kind`` is key, finding or profile; ``about`` is the code of what was checked."""

    profile: str
    vendor: str
    subject_type: str
    check_name: str
    result: Verdict
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
    """What the profile requires of its keys themselves, as JSON."""
    since: dt.datetime | None = None

    def row(self) -> dict[str, Any]:
        """For the table."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def of_key(use: Use, key: KeyRow, verdict: Verdict, reason: str, **more: Any) -> Check:
    """A key's verdict; what is all right is worth no attention, what is not known some."""
    severity: str = use.profile.severity if verdict in FAILING else "medium" if verdict is Verdict.UNKNOWN else "info"
    if verdict is Verdict.OVER_SHARED and SEVERITIES.index(severity) < SEVERITIES.index("high"):
        severity = "high"  # too much access harms nobody's service: what is broken comes first
    if verdict is not Verdict.BROKEN:
        severity = _bounded(use, severity)
    stale = "" if key.freshness == "current" else " This is the last known state."
    return Check(
        profile=use.name,
        vendor=use.profile.vendor,
        subject_type="key",
        check_name="access",
        result=verdict,
        severity=severity,
        reason=_capital(reason) + stale,
        account_id=key.account_id,
        account_name=key.account_name,
        region=key.region,
        key_arn=key.key_arn,
        key_alias=key.alias,
        required=use.required(),
        **more,
    )


def finding(use: Use, about: str, reason: str, *, key: KeyRow | None = None, **more: Any) -> Check:
    """Something that is not as the profile asks; of the profile's severity unless told otherwise."""
    place = {}
    if key is not None:
        place = {
            "account_id": key.account_id,
            "account_name": key.account_name,
            "region": key.region,
            "key_arn": key.key_arn,
            "key_alias": key.alias,
        }
    values = {"result": Verdict.WRONG, "severity": use.profile.severity, **place, **more}
    values["severity"] = _bounded(use, values["severity"])
    return Check(
        profile=use.name,
        vendor=use.profile.vendor,
        subject_type="finding",
        check_name=about,
        reason=_capital(reason),
        **values,
    )


def _bounded(use: Use, severity: str) -> str:
    """A key that the settings do not name may serve the vendor in another way: that is worth a look, no alarm."""
    return severity if use.configured or severity in SEVERITIES[2:] else "medium"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(items: Iterable[str], limit: int = 4) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    texts = list(items)
    if len(texts) > limit:
        return f"{', '.join(texts[:limit])} and {len(texts) - limit} more"
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def day(moment: dt.datetime | None) -> str:
    """A date, or that it is not known."""
    return f"{moment:%Y-%m-%d}" if moment else "a day that is not known"
