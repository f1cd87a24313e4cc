"""IAM of the accounts, in the shapes of iam:GetAccountAuthorizationDetails."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.entity_lifecycle import to_datetime
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.seeded_random import Draw

Shape = dict[str, Any]
LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
KINDS = {"User": "UserDetailList", "Group": "GroupDetailList", "Role": "RoleDetailList"}
USE = ["kms:Decrypt", "kms:GenerateDataKey"]


def entries(account_id: str) -> list[tuple[str, Shape]]:
    """All IAM entities of an account in the order of the response, each with the name of its list."""
    draw = Draw("iam", account_id)
    groups = [_group(account_id, name) for name in ("administrators", "developers")]
    users = [_user(account_id, number) for number in range(draw.between(*assumed.IAM_USERS))]
    roles = [_role(account_id, draw, number) for number in range(draw.between(*assumed.IAM_ROLES))]
    managed = [_managed(account_id, "decrypt-all", _use("*")), _managed(account_id, "boundary", _everything("s3:*"))]
    return [
        *(("UserDetailList", each) for each in users),
        *(("GroupDetailList", each) for each in groups),
        *(("RoleDetailList", each) for each in roles),
        *(("Policies", each) for each in [*managed, _managed("aws", "AdministratorAccess", _everything("*"))]),
    ]


def _entry(account_id: str, kind: str, name: str) -> Shape:
    digits = Draw("iam", account_id, kind, name).hexes(16).upper()
    return {
        "Path": "/",
        f"{kind}Name": name,
        f"{kind}Id": f"{'AGPA' if kind == 'Group' else 'AIDA' if kind == 'User' else 'AROA'}{digits}",
        "Arn": f"arn:aws:iam::{account_id}:{kind.lower()}/{name}",
        "CreateDate": to_datetime(START - 400 * DAY),
        "AttachedManagedPolicies": [],
    }


def _user(account_id: str, number: int) -> Shape:
    return _entry(account_id, "User", f"person-{number}") | {
        "GroupList": ["developers"] if number else ["administrators", "developers"],
        "Tags": [{"Key": "team", "Value": f"team-{number}"}],
    }


def _group(account_id: str, name: str) -> Shape:
    inline = [_inline("use", _use(f"arn:aws:kms:*:{account_id}:key/*"))] if name == "developers" else []
    attached = [] if inline else [{"PolicyName": "AdministratorAccess", "PolicyArn": ADMINISTRATOR}]
    return _entry(account_id, "Group", name) | {"GroupPolicyList": inline, "AttachedManagedPolicies": attached}


def _role(account_id: str, draw: Draw, number: int) -> Shape:
    attached = [{"PolicyName": "decrypt-all", "PolicyArn": f"arn:aws:iam::{account_id}:policy/decrypt-all"}]
    role = _entry(account_id, "Role", f"app-{number}") | {
        "AssumeRolePolicyDocument": _encoded(_trust(account_id, draw)),
        "RolePolicyList": [_inline("keys", _use("*"))] if draw.chance(0.5) else [],
        "AttachedManagedPolicies": attached if draw.chance(0.3) else [],
        "InstanceProfileList": [],
        "Tags": [{"Key": "team", "Value": f"team-{draw.between(1, 20)}"}],
        "RoleLastUsed": {"LastUsedDate": to_datetime(START), "Region": "us-east-1"},
    }
    if draw.chance(0.1):
        boundary = f"arn:aws:iam::{account_id}:policy/boundary"
        role["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
    return role


def _managed(account_id: str, name: str, document: Shape) -> Shape:
    created = to_datetime(START - 500 * DAY)
    older = {"Document": _encoded(_everything("iam:Get*")), "VersionId": "v1", "IsDefaultVersion": False}
    newer = {"Document": _encoded(document), "VersionId": "v2", "IsDefaultVersion": True}
    return {
        "PolicyName": name,
        "PolicyId": "ANPA" + Draw("iam", account_id, name).hexes(16).upper(),
        "Arn": f"arn:aws:iam::{account_id}:policy/{name}",
        "Path": "/",
        "DefaultVersionId": "v2",
        "AttachmentCount": 1,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "CreateDate": created,
        "UpdateDate": created,
        "PolicyVersionList": [version | {"CreateDate": created} for version in (newer, older)],
    }


def _inline(name: str, document: Shape) -> Shape:
    return {"PolicyName": name, "PolicyDocument": _encoded(document)}


def _trust(account_id: str, draw: Draw) -> Shape:
    own = {"Service": "lambda.amazonaws.com"} if draw.chance(0.6) else {"AWS": f"arn:aws:iam::{account_id}:root"}
    return _document({"Effect": "Allow", "Principal": own, "Action": "sts:AssumeRole"})


def _use(resource: str) -> Shape:
    return _document({"Effect": "Allow", "Action": USE, "Resource": resource})


def _everything(actions: str) -> Shape:
    return _document({"Effect": "Allow", "Action": actions, "Resource": "*"})


def _document(statement: Shape) -> Shape:
    return {"Version": "2012-10-17", "Statement": [statement]}


def _encoded(document: Shape) -> str:
    return quote(orjson.dumps(document), safe="")


def _get_account_authorization_details(call: Call) -> Shape:
    requested = {value for name, value in call.params.items() if name.startswith("Filter.member.")}
    kinds = {KINDS.get(each, "Policies") for each in requested} or set(LISTS)
    selected = [(kind, entry) for kind, entry in entries(call.session.account_id) if kind in kinds]
    page = call.page(",".join(sorted(kinds)), len(selected))
    response: Shape = {name: [] for name in LISTS}
    for kind, entry in selected[page.start : page.start + page.size]:
        response[kind].append(entry)
    return call.paged(page, response)


OPERATIONS: dict[str, Handler] = {"iam:GetAccountAuthorizationDetails": _get_account_authorization_details}
