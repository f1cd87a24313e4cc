"""CloudTrail trails: what they record, and where the trails of others record an account too.

Sources: the CloudTrail API reference, operations DescribeTrails, GetEventSelectors and GetTrailStatus. A region lists its own
trails and, as shadows, those that record it from elsewhere: the account's trails of all regions, and the organization's.
Only a trail's own account may ask for its selectors, so they and its status are asked once, in its home region.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crawler.resource_mapper import listed, listing_complete
from crawler.services.resource_types import GET_EVENT_SELECTORS, GET_TRAIL_STATUS, TRAIL
from crawler.spec import Scope, Step, Subject
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.trails import ShadowTrail, Trail, TrailScan, TrailSelector, TrailStatus

SELECTORS = ("EventSelectors", "AdvancedEventSelectors")


def _trail(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject | None:
    scope = subject.scope
    arn = item["TrailARN"]
    _, _, _, made_in, owner, _ = arn.split(":", 5)
    home = item.get("HomeRegion") or made_in
    described = {
        "trail_arn": arn,
        "account_id": scope.account_id,
        "region": scope.region,
        "name": item.get("Name"),
        "home_region": home,
        "is_multi_region": item.get("IsMultiRegionTrail"),
        "is_organization": item.get("IsOrganizationTrail"),
        "log_validation": item.get("LogFileValidationEnabled"),
        "kms_key": item.get("KmsKeyId") or None,
        "bucket": item.get("S3BucketName"),
        "has_custom_selectors": item.get("HasCustomEventSelectors"),
    }
    if (owner, home) != (scope.account_id, scope.region):
        batch.add(ShadowTrail, **described)
        return None
    batch.add(
        Trail,
        **described,
        global_events=item.get("IncludeGlobalServiceEvents"),
        log_group=item.get("CloudWatchLogsLogGroupArn"),
    )
    return listed(TRAIL, subject, item, batch)


def _complete(subject: Subject, batch: Batch) -> None:
    scope = subject.scope
    batch.mark_complete(Trail, scope.account_id, scope.region)
    batch.mark_complete(ShadowTrail, scope.account_id, scope.region)
    batch.add(TrailScan, account_id=scope.account_id, region=scope.region)
    listing_complete(TRAIL, subject, batch)


def _selectors(subject: Subject, answer: Mapping[str, Any], batch: Batch) -> Subject | None:
    found = {name: answer.get(name) or [] for name in SELECTORS}
    batch.add(TrailSelector, trail_arn=subject.arn, selectors=canonical_json(found))
    return None


def _status(subject: Subject, answer: Mapping[str, Any], batch: Batch) -> Subject | None:
    batch.add(
        TrailStatus,
        trail_arn=subject.arn,
        logging=answer.get("IsLogging"),
        started_at=answer.get("StartLoggingTime"),
        stopped_at=answer.get("StopLoggingTime"),
        delivery_error=answer.get("LatestDeliveryError") or None,
    )
    return None


TRAILS = Step(
    TRAIL.listing, _trail, _complete, children=(Step(GET_EVENT_SELECTORS, _selectors), Step(GET_TRAIL_STATUS, _status))
)


def not_asked(scope: Scope, batch: Batch) -> None:
    """The configuration leaves trails out: what was read of them before is only what was last known."""
    batch.mark_complete(TrailScan, scope.account_id, scope.region)
