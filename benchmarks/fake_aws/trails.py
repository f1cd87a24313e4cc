"""CloudTrail: one trail of the organization, and some that accounts keep for themselves."""

from __future__ import annotations

from typing import Any

import orjson

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.aws_protocols import RefusedError
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.seeded_random import Draw
from benchmarks.fake_aws.world_state import Place

SELECTOR = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}


def own_trails(place: Place) -> list[dict[str, Any]]:
    """The trails whose home is here, as cloudtrail:DescribeTrails tells them."""
    home = place.parameters.regions[0]
    if place.region != home:
        return []
    found = []
    if place.account_id == place.world.management.id:
        found.append(_trail(place, place.account_id, "organization"))
    draw = _draw(place.account_id)
    if draw.chance(assumed.ACCOUNTS_WITH_TRAIL):
        found.append(_trail(place, place.account_id, "audit"))
    return found


def shadows(place: Place) -> list[dict[str, Any]]:
    """The trails that record this account and region from elsewhere."""
    home = place.parameters.regions[0]
    management = place.world.management.id
    found = []
    if (place.account_id, place.region) != (management, home):
        found.append(_trail(place, management, "organization"))
    if place.region != home and _draw(place.account_id).chance(assumed.ACCOUNTS_WITH_TRAIL):
        found.append(_trail(place, place.account_id, "audit"))
    return [trail for trail in found if trail["IsMultiRegionTrail"]]


def selectors(arn: str) -> dict[str, Any]:
    """As cloudtrail:GetEventSelectors tells them: some trails leave KMS out."""
    excluded = ["kms.amazonaws.com"] if _excludes(arn) else []
    return {"TrailARN": arn, "EventSelectors": [SELECTOR | {"ExcludeManagementEventSources": excluded}]}


def status(arn: str) -> dict[str, Any]:
    """As cloudtrail:GetTrailStatus tells it."""
    logging = not Draw("trail status", arn).chance(assumed.TRAILS_STOPPED)
    told = {"IsLogging": logging, "StartLoggingTime": START - 200 * DAY}
    return told if logging else told | {"StopLoggingTime": START - 20 * DAY}


def _draw(account_id: str) -> Draw:
    return Draw("trail", account_id)


def _excludes(arn: str) -> bool:
    return not arn.endswith("/organization") and Draw("trail selectors", arn).chance(assumed.TRAILS_WITHOUT_KMS)


def _trail(place: Place, account_id: str, name: str) -> dict[str, Any]:
    """As it is told in any place."""
    home, of_all = place.parameters.regions[0], name == "organization"
    arn = f"arn:aws:cloudtrail:{home}:{account_id}:trail/{name}"
    draw = Draw("trail", arn)
    told = {
        "Name": name,
        "S3BucketName": f"trail-{name}-{account_id}",
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": of_all or draw.chance(assumed.TRAILS_OF_ALL_REGIONS),
        "HomeRegion": home,
        "TrailARN": arn,
        "LogFileValidationEnabled": of_all or draw.chance(assumed.TRAILS_VALIDATED),
        "HasCustomEventSelectors": _excludes(arn),
        "HasInsightSelectors": False,
        "IsOrganizationTrail": of_all,
    }
    if of_all or not draw.chance(assumed.TRAILS_UNDER_KEY):
        return told
    at_home = place if place.region == home else place.world.place(account_id, home, place.night)
    key = f"arn:aws:kms:{home}:{account_id}:key/{at_home.key_id(at_home.customer[0])}" if at_home.customer else None
    return told | {"KmsKeyId": key} if key else told


def _describe_trails(call: Call) -> bytes:
    hidden = call.asked.get("includeShadowTrails") is False
    found = own_trails(call.place) + ([] if hidden else shadows(call.place))
    return orjson.dumps({"trailList": found})


def _own(call: Call, member: str) -> str:
    arn = str(call.asked.get(member, ""))
    if arn not in {trail["TrailARN"] for trail in own_trails(call.place)}:
        raise RefusedError(
            "TrailNotFoundException", 400, f"Unknown trail: {arn} for the user: {call.session.account_id}"
        )
    return arn


OPERATIONS: dict[str, Handler] = {
    "cloudtrail:DescribeTrails": _describe_trails,
    "cloudtrail:GetEventSelectors": lambda call: orjson.dumps(selectors(_own(call, "TrailName"))),
    "cloudtrail:GetTrailStatus": lambda call: orjson.dumps(status(_own(call, "Name"))),
}
