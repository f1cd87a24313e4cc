"""Whether the use of a vendor's keys is logged: one finding for each account and region in which it is not, or not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reports.vendors.assignments import Use
from reports.vendors.queries import Facts
from reports.vendors.result import Check, Verdict, finding

_LOGGING = """
SELECT account_id, account_name, region, kms_events, reason, freshness FROM kms_logging
WHERE list_contains($account_regions, account_id || '/' || region)
ORDER BY account_id, region
"""
USE_IS_LOGGED = frozenset({"all", "read"})


def logging(use: Use, facts: Facts, places: Iterable[tuple[str, str]]) -> Iterator[Check]:
    """What to say of the accounts and regions of the keys; nothing where the use of keys is logged."""
    asked = sorted({f"{account}/{region}" for account, region in places})
    found = {}
    for one in facts.rows(_LOGGING, account_regions=asked):
        found[f"{one['account_id']}/{one['region']}"] = one
    for place in asked:
        row = found.get(place)
        if row is not None and row["kms_events"] in USE_IS_LOGGED:
            continue
        account, region = place.split("/")
        said = "the region was not read" if row is None else row["reason"]
        stale = " This is the last known state." if row is not None and row["freshness"] == "stale" else ""
        known = row is not None and row["kms_events"] is not None
        reason = f"{said}." if known else f"Whether the use of keys is logged is not known: {_small(said)}."
        yield finding(
            use,
            "logging",
            f"{reason}{stale} {use.profile.logging}".strip(),
            result=Verdict.ADVICE if known else Verdict.UNKNOWN,
            severity="low" if known else "info",
            account_id=account,
            account_name=row["account_name"] if row is not None else None,
            region=region,
            fix="Let a trail that covers the region select management events of KMS: remove kms.amazonaws.com from the "
            "excluded event sources (aws cloudtrail put-event-selectors), and switch the trail on (aws cloudtrail start-logging)."
            if known
            else "Let our role call cloudtrail:DescribeTrails, GetEventSelectors and GetTrailStatus there.",
        )


def _small(text: str | None) -> str:
    return text[:1].lower() + text[1:] if text else "no reason is known"
