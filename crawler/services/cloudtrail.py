"""CloudTrail trails: their event selectors and status, and the shadow trails that record an account from elsewhere.

Sources: the CloudTrail API reference, operations DescribeTrails, GetEventSelectors and GetTrailStatus. A region lists its own
trails and, as shadow trails, those that record it from elsewhere: the account's multi-region trails and the organization's.
Only a trail's own account may read its selectors, so they and its status are read once, in the home region.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crawler.aws.response_validation import arn_prefix, check_arn
from crawler.resource_mapper import listing_complete, record_item
from crawler.services.resource_types import GET_EVENT_SELECTORS, GET_TRAIL_STATUS, TRAIL
from crawler.spec import Scope, Step, Subject
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.trails import ShadowTrail, Trail, TrailScan, TrailSelector, TrailStatus

SELECTORS = ("EventSelectors", "AdvancedEventSelectors")


def _record_trail(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject | None:
    scope = subject.scope
    arn = item["TrailARN"]
    _, _, _, home, owner, _ = arn.split(":", 5)
    check_arn(TRAIL.listing, arn, arn_prefix(Scope(owner, home, scope.partition), "cloudtrail"))
    # Another account's trail is shown if it is the organization's, another region's if it is multi-region.
    if (
        item.get("HomeRegion", home) != home
        or (owner != scope.account_id and not item.get("IsOrganizationTrail"))
        or (home != scope.region and not item.get("IsMultiRegionTrail"))
    ):
        raise ValueError(f"{arn} is not a trail of {scope}")
    values = {
        "trail_arn": arn,
        "account_id": scope.account_id,
        "region": scope.region,
        "name": item["Name"],
        "home_region": home,
        "is_multi_region": item.get("IsMultiRegionTrail"),
        "is_organization": item.get("IsOrganizationTrail"),
        "log_validation": item.get("LogFileValidationEnabled"),
        "kms_key": item.get("KmsKeyId") or None,
        "bucket": item.get("S3BucketName"),
        "has_custom_selectors": item.get("HasCustomEventSelectors"),
    }
    if (owner, home) != (scope.account_id, scope.region):
        batch.add(ShadowTrail, **values)
        return None
    batch.add(
        Trail,
        **values,
        global_events=item.get("IncludeGlobalServiceEvents"),
        log_group=item.get("CloudWatchLogsLogGroupArn"),
    )
    return record_item(TRAIL, subject, item, batch)


def _complete(subject: Subject, batch: Batch) -> None:
    batch.add(TrailScan, account_id=subject.scope.account_id, region=subject.scope.region)
    listing_complete(TRAIL, subject, batch)


def _record_selectors(subject: Subject, response: Mapping[str, Any], batch: Batch) -> None:
    selectors = {name: response.get(name) or [] for name in SELECTORS}
    batch.add(TrailSelector, trail_arn=subject.arn, selectors=canonical_json(selectors))


def _record_status(subject: Subject, response: Mapping[str, Any], batch: Batch) -> None:
    batch.add(
        TrailStatus,
        trail_arn=subject.arn,
        logging=response.get("IsLogging"),
        started_at=response.get("StartLoggingTime"),
        stopped_at=response.get("StopLoggingTime"),
        delivery_error=response.get("LatestDeliveryError") or None,
    )


TRAILS = Step(
    TRAIL.listing,
    _record_trail,
    (Trail, ShadowTrail),
    identity="TrailARN",
    complete=_complete,
    children=(Step(GET_EVENT_SELECTORS, _record_selectors), Step(GET_TRAIL_STATUS, _record_status)),
)
