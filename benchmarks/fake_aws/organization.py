"""The operations of STS, Organizations, Account Management and EC2 that say who there is and where."""

from __future__ import annotations

import re
from typing import Any

import orjson

from benchmarks.fake_aws.accounts import PRODUCTION, ROOT, UNITS, Account
from benchmarks.fake_aws.aws_protocols import RefusedError, query_answer, refused, root_answer
from benchmarks.fake_aws.entity_lifecycle import when
from benchmarks.fake_aws.request_context import Call, Handler

ROLE = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]+)")
LONGEST = 43_200
"""Seconds of a role session; a role assumed by a role has an hour."""
CHAINED = 3600
SESSION_POLICY = 2048


def _get_caller_identity(call: Call) -> bytes:
    session = call.session
    told = {"Arn": session.arn, "UserId": session.user_id, "Account": session.account_id}
    return query_answer("sts", "GetCallerIdentity", told)


def _assume_role(call: Call) -> bytes:
    state, asked = call.state, call.asked
    parameters = state.world.parameters
    arn = asked.get("RoleArn", "")
    seconds = int(asked.get("DurationSeconds", 3600))
    if len(asked.get("Policy", "")) > SESSION_POLICY:
        raise RefusedError("PackedPolicyTooLarge", 400, "The session policy is too long.")
    if not 900 <= seconds <= LONGEST:
        raise refused("sts", "value", f"DurationSeconds {seconds} is not between 900 and {LONGEST}")
    if call.session.expires is not None and seconds > CHAINED:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise refused("sts", "value", message)
    found = ROLE.fullmatch(arn)
    account = state.world.account(found[1]) if found else None
    expected = parameters.external_id
    if account is not None and account.role == "other external id":
        expected = "an external id that nobody was told"
    trusted = (
        found is not None
        and account is not None
        and account.state == "ACTIVE"
        and account.role != "missing"
        and found[2] == parameters.role_name
        and expected in {None, asked.get("ExternalId")}
        and call.session.account_id == state.world.management.id
        and not state.role_is_gone(account.id)
    )
    if not trusted or found is None:
        # One answer for all: nobody shall find out which roles exist.
        raise call.denied("bare", arn)
    seconds = seconds if state.faults.session_seconds is None else state.faults.session_seconds
    issued = state.identities.issue(found[1], found[2], asked.get("RoleSessionName", ""), call.now + seconds)
    session = issued.session
    told: dict[str, Any] = {
        "Credentials": {
            "AccessKeyId": session.access_key,
            "SecretAccessKey": session.secret_key,
            "SessionToken": issued.token,
            "Expiration": when(session.expires or 0.0),
        },
        "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
        "PackedPolicySize": 6,
    }
    if source := asked.get("SourceIdentity"):
        told["SourceIdentity"] = source
    return query_answer("sts", "AssumeRole", told)


def _only_management(call: Call) -> None:
    if call.session.account_id != call.state.world.management.id:
        raise refused(call.service, "denied", "You don't have permissions to access this resource.")


def _describe_organization(call: Call) -> bytes:
    world = call.state.world
    management, organization = world.management, world.parameters.organization_id
    base = f"arn:aws:organizations::{management.id}"
    told = {
        "Id": organization,
        "Arn": f"{base}:organization/{organization}",
        "FeatureSet": "ALL",
        "MasterAccountArn": f"{base}:account/{organization}/{management.id}",
        "MasterAccountId": management.id,
        "MasterAccountEmail": management.entry(world.parameters)["Email"],
        "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
    }
    return orjson.dumps({"Organization": told})


def _listing(call: Call, name: str, subject: str, entries: list[Any]) -> bytes:
    page = call.page(subject, len(entries))
    told: dict[str, Any] = {name: entries[page.start : page.start + page.size]}
    if page.token is not None:
        told["NextToken"] = page.token
    return orjson.dumps(told)


def _accounts(call: Call, accounts: list[Account], subject: str) -> bytes:
    parameters = call.state.world.parameters
    page = call.page(subject, len(accounts))
    shown = accounts[page.start : page.start + page.size]
    told: dict[str, Any] = {"Accounts": [account.entry(parameters) for account in shown]}
    if page.token is not None:
        told["NextToken"] = page.token
    return orjson.dumps(told)


def _list_accounts(call: Call) -> bytes:
    _only_management(call)
    return _accounts(call, call.state.world.accounts, "")


def _list_accounts_for_parent(call: Call) -> bytes:
    _only_management(call)
    parent = _parent(call)
    accounts = [account for account in call.state.world.accounts if account.parents[-1] == parent]
    return _accounts(call, accounts, parent)


def _list_roots(call: Call) -> bytes:
    _only_management(call)
    arn = f"arn:aws:organizations::{call.state.world.management.id}:root/{_organization(call)}/{ROOT}"
    enabled = [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]
    return _listing(call, "Roots", "", [{"Id": ROOT, "Arn": arn, "Name": "Root", "PolicyTypes": enabled}])


def _list_units(call: Call) -> bytes:
    _only_management(call)
    parent = _parent(call)
    below = {ROOT: dict(UNITS), UNITS["workload"]: {"production": PRODUCTION}}.get(parent, {})
    arn = f"arn:aws:organizations::{call.state.world.management.id}:ou/{_organization(call)}/"
    units = [{"Id": unit, "Arn": arn + unit, "Name": name} for name, unit in below.items()]
    return _listing(call, "OrganizationalUnits", parent, units)


def _list_tags(call: Call) -> bytes:
    _only_management(call)
    resource = str(call.asked.get("ResourceId", ""))
    account = call.state.world.account(resource)
    if account is None and resource not in {ROOT, PRODUCTION, *UNITS.values()}:
        raise RefusedError("TargetNotFoundException", 400, "You specified a target that doesn't exist.")
    tags = [{"Key": "Environment", "Value": account.kind}] if account is not None else []
    return _listing(call, "Tags", resource, tags)


def _organization(call: Call) -> str:
    return call.state.world.parameters.organization_id


def _parent(call: Call) -> str:
    parent = str(call.asked.get("ParentId", ""))
    if parent not in {ROOT, PRODUCTION, *UNITS.values()}:
        raise RefusedError("ParentNotFoundException", 400, "You specified a parent that doesn't exist.")
    return parent


def _list_regions(call: Call) -> bytes:
    world = call.state.world
    wanted = call.asked.get("AccountId")
    if wanted is not None:
        _only_management(call)
    if wanted == world.management.id:
        raise refused("account", "value", "The management account must not name itself: leave AccountId out.")
    account = world.account(str(wanted or call.session.account_id))
    if account is None:
        raise RefusedError("ResourceNotFoundException", 404, "There is no such account in the organization.")
    statuses = call.asked.get("RegionOptStatusContains")
    regions = [
        {"RegionName": region, "RegionOptStatus": status}
        for region, status in account.region_states(world.parameters).items()
        if not statuses or status in statuses
    ]
    return _listing(call, "Regions", account.id, regions)


def _describe_regions(call: Call) -> bytes:
    words = {"ENABLED_BY_DEFAULT": "opt-in-not-required", "ENABLED": "opted-in", "DISABLED": "not-opted-in"}
    # As it is in the list now: a place is held, and its account with it.
    account = call.state.world.account(call.session.account_id) or call.place.account
    every = call.asked.get("AllRegions") == "true"
    regions = [
        {"regionName": region, "regionEndpoint": f"ec2.{region}.amazonaws.com", "optInStatus": words[status]}
        for region, status in account.region_states(call.state.world.parameters).items()
        if every or status != "DISABLED"
    ]
    return root_answer("ec2", "DescribeRegionsResponse", {"regionInfo": regions})


OPERATIONS: dict[str, Handler] = {
    "sts:GetCallerIdentity": _get_caller_identity,
    "sts:AssumeRole": _assume_role,
    "organizations:DescribeOrganization": _describe_organization,
    "organizations:ListAccounts": _list_accounts,
    "organizations:ListAccountsForParent": _list_accounts_for_parent,
    "organizations:ListRoots": _list_roots,
    "organizations:ListOrganizationalUnitsForParent": _list_units,
    "organizations:ListTagsForResource": _list_tags,
    "account:ListRegions": _list_regions,
    "ec2:DescribeRegions": _describe_regions,
}
