"""CloudTrail: an organization trail, and trails of single accounts."""

from __future__ import annotations

from typing import Any

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.aws_protocols import ApiError
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.seeded_random import Draw
from benchmarks.fake_aws.world_state import AccountRegion

SELECTOR = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}


def own_trails(account_region: AccountRegion) -> list[dict[str, Any]]:
    """The trails with this home region, in the shape of cloudtrail:DescribeTrails."""
    home = account_region.parameters.regions[0]
    if account_region.region != home:
        return []
    trails = []
    if account_region.account_id == account_region.world.management.id:
        trails.append(_trail(account_region, account_region.account_id, "organization"))
    draw = _draw(account_region.account_id)
    if draw.chance(assumed.ACCOUNTS_WITH_TRAIL):
        trails.append(_trail(account_region, account_region.account_id, "audit"))
    return trails


def shadows(account_region: AccountRegion) -> list[dict[str, Any]]:
    """The shadow trails of an account-region."""
    home = account_region.parameters.regions[0]
    management = account_region.world.management.id
    trails = []
    if (account_region.account_id, account_region.region) != (management, home):
        trails.append(_trail(account_region, management, "organization"))
    if account_region.region != home and _draw(account_region.account_id).chance(assumed.ACCOUNTS_WITH_TRAIL):
        trails.append(_trail(account_region, account_region.account_id, "audit"))
    return [trail for trail in trails if trail["IsMultiRegionTrail"]]


def selectors(arn: str) -> dict[str, Any]:
    """The response of cloudtrail:GetEventSelectors; some trails exclude KMS events."""
    excluded = ["kms.amazonaws.com"] if _excludes(arn) else []
    return {"TrailARN": arn, "EventSelectors": [SELECTOR | {"ExcludeManagementEventSources": excluded}]}


def status(arn: str) -> dict[str, Any]:
    """The response of cloudtrail:GetTrailStatus."""
    logging = not Draw("trail status", arn).chance(assumed.TRAILS_STOPPED)
    response = {"IsLogging": logging, "StartLoggingTime": START - 200 * DAY}
    return response if logging else response | {"StopLoggingTime": START - 20 * DAY}


def _draw(account_id: str) -> Draw:
    return Draw("trail", account_id)


def _excludes(arn: str) -> bool:
    return not arn.endswith("/organization") and Draw("trail selectors", arn).chance(assumed.TRAILS_WITHOUT_KMS)


def _trail(account_region: AccountRegion, account_id: str, name: str) -> dict[str, Any]:
    """A trail as returned in any account-region."""
    home, is_organization = account_region.parameters.regions[0], name == "organization"
    arn = f"arn:aws:cloudtrail:{home}:{account_id}:trail/{name}"
    draw = Draw("trail", arn)
    response = {
        "Name": name,
        "S3BucketName": f"trail-{name}-{account_id}",
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": is_organization or draw.chance(assumed.TRAILS_OF_ALL_REGIONS),
        "HomeRegion": home,
        "TrailARN": arn,
        "LogFileValidationEnabled": is_organization or draw.chance(assumed.TRAILS_VALIDATED),
        "HasCustomEventSelectors": _excludes(arn),
        "HasInsightSelectors": False,
        "IsOrganizationTrail": is_organization,
    }
    if is_organization or not draw.chance(assumed.TRAILS_UNDER_KEY):
        return response
    if account_region.region != home:
        account_region = account_region.world.account_region(account_id, home, account_region.day)
    if not account_region.customer_slots:
        return response
    key_id = account_region.key_id(account_region.customer_slots[0])
    return response | {"KmsKeyId": f"arn:aws:kms:{home}:{account_id}:key/{key_id}"}


def _describe_trails(call: Call) -> dict[str, Any]:
    hidden = call.params.get("includeShadowTrails") is False
    trails = own_trails(call.account_region) + ([] if hidden else shadows(call.account_region))
    return {"trailList": trails}


def _own(call: Call, member: str) -> str:
    arn = str(call.params.get(member, ""))
    if arn not in {trail["TrailARN"] for trail in own_trails(call.account_region)}:
        raise ApiError("TrailNotFoundException", 400, f"Unknown trail: {arn} for the user: {call.session.account_id}")
    return arn


OPERATIONS: dict[str, Handler] = {
    "cloudtrail:DescribeTrails": _describe_trails,
    "cloudtrail:GetEventSelectors": lambda call: selectors(_own(call, "TrailName")),
    "cloudtrail:GetTrailStatus": lambda call: status(_own(call, "Name")),
}
