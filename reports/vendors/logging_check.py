"""Checks whether use of a vendor's keys is logged: one finding for each account-region where it is not, or is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reports.vendors.assignments import ProfileAssignment
from reports.vendors.queries import Facts
from reports.vendors.result import Check, CheckResult, finding

_LOGGING = """
SELECT account_id, account_name, region, kms_events, reason, freshness FROM kms_logging
WHERE list_contains($account_regions, account_id || '/' || region)
ORDER BY account_id, region
"""
USE_IS_LOGGED = frozenset({"all", "read"})


def logging(assignment: ProfileAssignment, facts: Facts, account_regions: Iterable[tuple[str, str]]) -> Iterator[Check]:
    """Yield a finding for each account-region in which use of the keys is not logged, or unknown."""
    names = sorted({f"{account}/{region}" for account, region in account_regions})
    rows = {f"{row['account_id']}/{row['region']}": row for row in facts.rows(_LOGGING, account_regions=names)}
    for name in names:
        row = rows.get(name)
        if row is not None and row["kms_events"] in USE_IS_LOGGED:
            continue
        account, region = name.split("/")
        cause = "the region was not read" if row is None else row["reason"]
        stale = " This is the last known state." if row is not None and row["freshness"] == "stale" else ""
        known = row is not None and row["kms_events"] is not None
        reason = (
            f"{cause}."
            if known
            else f"Whether use of the keys is logged could not be determined: {_lower_first(cause)}."
        )
        yield finding(
            assignment,
            "logging",
            f"{reason}{stale} {assignment.profile.logging}".strip(),
            result=CheckResult.ADVICE if known else CheckResult.UNKNOWN,
            severity="low" if known else "info",
            account_id=account,
            account_name=row["account_name"] if row is not None else None,
            region=region,
            fix="Configure a trail that covers the region to record management events of KMS: remove kms.amazonaws.com from the "
            "excluded event sources (aws cloudtrail put-event-selectors), and start the trail (aws cloudtrail start-logging)."
            if known
            else "Allow our role to call cloudtrail:DescribeTrails, GetEventSelectors and GetTrailStatus there.",
        )


def _lower_first(text: str | None) -> str:
    return text[:1].lower() + text[1:] if text else "unknown reason"
