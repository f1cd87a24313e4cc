"""The operations of STS, Organizations, Account Management and EC2 about accounts and regions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from benchmarks.fake_aws.accounts import PRODUCTION, ROOT, UNITS, Account
from benchmarks.fake_aws.aws_protocols import ApiError, api_error
from benchmarks.fake_aws.entity_lifecycle import to_datetime
from benchmarks.fake_aws.request_context import Call, Handler

ROLE = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]+)")
READER_ROLE = "OrganizationReader"
"""A role of the management account that anyone there may assume."""
MAX_SESSION_SECONDS = 43_200
"""The maximum of DurationSeconds; role chaining allows one hour."""
MAX_CHAINED_SECONDS = 3600
MAX_SESSION_POLICY = 2048


def _get_caller_identity(call: Call) -> dict[str, Any]:
    session = call.session
    return {"Arn": session.arn, "UserId": session.user_id, "Account": session.account_id}


def _assume_role(call: Call) -> dict[str, Any]:
    state, params = call.state, call.params
    parameters = state.world.parameters
    arn = params.get("RoleArn", "")
    seconds = int(params.get("DurationSeconds", 3600))
    if len(params.get("Policy", "")) > MAX_SESSION_POLICY:
        raise ApiError("PackedPolicyTooLarge", 400, "The session policy is too long.")
    if not 900 <= seconds <= MAX_SESSION_SECONDS:
        raise api_error("sts", "value", f"DurationSeconds {seconds} is not between 900 and {MAX_SESSION_SECONDS}")
    if call.session.expires is not None and seconds > MAX_CHAINED_SECONDS:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise api_error("sts", "value", message)
    match = ROLE.fullmatch(arn)
    account = state.world.account(match[1]) if match else None
    expected = parameters.external_id
    if account is not None and account.role == "other external id":
        expected = "an unknown external id"
    trusted = (
        match is not None
        and account is not None
        and account.state == "ACTIVE"
        and account.id not in (*state.faults.absent, *state.faults.suspended)
        and account.role != "missing"
        and match[2] in {parameters.role_name, *({READER_ROLE} if account.index == 0 else ())}
        and expected in {None, params.get("ExternalId")}
        and call.session.account_id == state.world.management.id
        and not state.role_is_gone(account.id)
    )
    if not trusted or match is None:
        # The same error in all cases, so that callers cannot find out which roles exist.
        raise call.denied("bare", arn)
    seconds = seconds if state.faults.session_seconds is None else state.faults.session_seconds
    issued = state.identities.issue(match[1], match[2], params.get("RoleSessionName", ""), call.now + seconds)
    session = issued.session
    members: dict[str, Any] = {
        "Credentials": {
            "AccessKeyId": session.access_key,
            "SecretAccessKey": session.secret_key,
            "SessionToken": issued.token,
            "Expiration": to_datetime(session.expires or 0.0),
        },
        "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
        "PackedPolicySize": 6,
    }
    if source := params.get("SourceIdentity"):
        members["SourceIdentity"] = source
    return members


def _only_management(call: Call) -> None:
    if call.session.account_id != call.state.world.management.id:
        raise api_error(call.service, "denied", "You don't have permissions to access this resource.")


def _describe_organization(call: Call) -> dict[str, Any]:
    world = call.state.world
    management, organization = world.management, world.parameters.organization_id
    base = f"arn:aws:organizations::{management.id}"
    members = {
        "Id": organization,
        "Arn": f"{base}:organization/{organization}",
        "FeatureSet": "ALL",
        "MasterAccountArn": f"{base}:account/{organization}/{management.id}",
        "MasterAccountId": management.id,
        "MasterAccountEmail": management.entry(world.parameters)["Email"],
        "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
    }
    return {"Organization": members}


def _accounts(call: Call, accounts: list[Account], subject: str) -> dict[str, Any]:
    parameters = call.state.world.parameters
    page = call.page(subject, len(accounts))
    shown = accounts[page.start : page.start + page.size]
    return call.paged(page, {"Accounts": [account.entry(parameters) for account in shown]})


def _current(call: Call) -> list[Account]:
    """The accounts of the organization, with their present state."""
    faults = call.state.faults
    return [
        replace(account, state="SUSPENDED") if account.id in faults.suspended else account
        for account in call.state.world.accounts
        if account.id not in faults.absent
    ]


def _list_accounts(call: Call) -> dict[str, Any]:
    _only_management(call)
    return _accounts(call, _current(call), "")


def _list_accounts_for_parent(call: Call) -> dict[str, Any]:
    _only_management(call)
    parent = _parent(call)
    accounts = [account for account in _current(call) if account.parents[-1] == parent]
    return _accounts(call, accounts, parent)


def _list_roots(call: Call) -> dict[str, Any]:
    _only_management(call)
    arn = f"arn:aws:organizations::{call.state.world.management.id}:root/{_organization(call)}/{ROOT}"
    enabled = [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]
    return call.listing("", "Roots", [{"Id": ROOT, "Arn": arn, "Name": "Root", "PolicyTypes": enabled}])


def _list_units(call: Call) -> dict[str, Any]:
    _only_management(call)
    parent = _parent(call)
    below = {ROOT: dict(UNITS), UNITS["workload"]: {"production": PRODUCTION}}.get(parent, {})
    arn = f"arn:aws:organizations::{call.state.world.management.id}:ou/{_organization(call)}/"
    units = [{"Id": unit, "Arn": arn + unit, "Name": name} for name, unit in below.items()]
    return call.listing(parent, "OrganizationalUnits", units)


def _list_tags(call: Call) -> dict[str, Any]:
    _only_management(call)
    resource = str(call.params.get("ResourceId", ""))
    account = call.state.world.account(resource)
    if account is None and resource not in {ROOT, PRODUCTION, *UNITS.values()}:
        raise ApiError("TargetNotFoundException", 400, "You specified a target that doesn't exist.")
    tags = [{"Key": "Environment", "Value": account.kind}] if account is not None else []
    return call.listing(resource, "Tags", tags)


def _organization(call: Call) -> str:
    return call.state.world.parameters.organization_id


def _parent(call: Call) -> str:
    parent = str(call.params.get("ParentId", ""))
    if parent not in {ROOT, PRODUCTION, *UNITS.values()}:
        raise ApiError("ParentNotFoundException", 400, "You specified a parent that doesn't exist.")
    return parent


def _list_regions(call: Call) -> dict[str, Any]:
    world = call.state.world
    requested = call.params.get("AccountId")
    if requested is not None:
        _only_management(call)
    if requested == world.management.id:
        raise api_error("account", "value", "The management account must not name itself: leave AccountId out.")
    account = world.account(str(requested or call.session.account_id))
    if account is None:
        raise ApiError("ResourceNotFoundException", 404, "There is no such account in the organization.")
    statuses = call.params.get("RegionOptStatusContains")
    regions = [
        {"RegionName": region, "RegionOptStatus": status}
        for region, status in account.region_states(world.parameters).items()
        if not statuses or status in statuses
    ]
    return call.listing(account.id, "Regions", regions)


def _describe_regions(call: Call) -> dict[str, Any]:
    words = {"ENABLED_BY_DEFAULT": "opt-in-not-required", "ENABLED": "opted-in", "DISABLED": "not-opted-in"}
    # The current state of the account: account-regions are cached together with their account.
    account = call.state.world.account(call.session.account_id) or call.account_region.account
    all_regions = call.params.get("AllRegions") == "true"
    regions = [
        {"RegionName": region, "Endpoint": f"ec2.{region}.amazonaws.com", "OptInStatus": words[status]}
        for region, status in account.region_states(call.state.world.parameters).items()
        if all_regions or status != "DISABLED"
    ]
    return {"Regions": regions}


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
