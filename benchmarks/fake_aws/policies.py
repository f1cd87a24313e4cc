"""Key policies from 330 bytes to 32 KB, as written by people, consoles and Terraform modules."""

from __future__ import annotations

from typing import Any

import orjson

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.seeded_random import Draw

LIMIT = 32_768
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
ADMINISTER = [
    "kms:Create*",
    "kms:Describe*",
    "kms:Enable*",
    "kms:List*",
    "kms:Put*",
    "kms:Update*",
    "kms:Revoke*",
    "kms:Disable*",
    "kms:Get*",
    "kms:Delete*",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:ScheduleKeyDeletion",
    "kms:CancelKeyDeletion",
]
SERVICES = ("logs", "sns", "sqs", "cloudtrail", "rds", "s3", "dynamodb", "secretsmanager", "backup", "events")
Statement = dict[str, Any]


def text(  # noqa: PLR0917 - the inputs of a policy
    account_id: str, region: str, draw: Draw, other: str, statements: int | None, added: int
) -> str:
    """A key policy. `other` is another account of the organization, `added` the number of statements added later."""
    count = statements if statements is not None else draw.between(*draw.weighted(assumed.POLICY_STATEMENTS))
    delegated = not draw.chance(assumed.POLICY_NOT_DELEGATED)
    document: list[Statement] = [_root(account_id) if delegated else _administrators(account_id)]
    document += [_statement(account_id, region, draw, other, number) for number in range(1, count)]
    document += [_added(account_id, number) for number in range(added)]
    return _encode("key-default-1" if count == 1 and not added else "key-policy", document)


def managed(service: str, account_id: str, region: str) -> str:
    """The policy of an AWS managed key: the service can use it, the account can read its metadata."""
    via = {"kms:CallerAccount": account_id, "kms:ViaService": f"{service}.{region}.amazonaws.com"}
    use = {**_allow(f"Allow access through {service}", {"AWS": "*"}, USE), "Condition": {"StringEquals": via}}
    read = _allow("Allow direct access to key metadata", _arn(account_id), ["kms:Describe*", "kms:Get*", "kms:List*"])
    return _encode(f"auto-{service}-1", [use, read])


def longest(account_id: str, region: str) -> str:
    """A key policy close to the size limit."""
    draw = Draw("longest", account_id)
    document = [_root(account_id)]
    while len(_encode("key-long", document)) < LIMIT - 1_200:
        document.append(_statement(account_id, region, draw, account_id, len(document)))
    return _encode("key-long", document)


def _encode(name: str, document: list[Statement]) -> str:
    return orjson.dumps(
        {"Version": "2012-10-17", "Id": name, "Statement": document}, option=orjson.OPT_INDENT_2
    ).decode()


def _arn(account_id: str, resource: str = "root") -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{account_id}:{resource}"}


def _allow(sid: str, principal: Any, actions: Any) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*"}


def _root(account_id: str) -> Statement:
    return _allow("Enable IAM User Permissions", _arn(account_id), "kms:*")


def _administrators(account_id: str) -> Statement:
    return _allow("Administrators only", _arn(account_id, "role/KeyAdministrator"), ADMINISTER)


def _added(account_id: str, number: int) -> Statement:
    return _allow(f"Added {number}", _arn(account_id, f"role/Added{number}"), ["kms:Decrypt", "kms:DescribeKey"])


def _statement(account_id: str, region: str, draw: Draw, other: str, number: int) -> Statement:
    kind = draw.unit()
    sid = f"Statement{number}"
    if kind < 0.30:
        return _allow(sid, _arn(account_id, f"role/app-{draw.between(1, 40)}"), USE)
    if kind < 0.45:
        return _allow(sid, _arn(account_id, f"role/admin-{draw.between(1, 3)}"), ADMINISTER)
    if kind < 0.65:
        service = draw.pick(SERVICES)
        condition = {"StringEquals": {"aws:SourceAccount": account_id}}
        principal = {"Service": f"{service}.amazonaws.com"}
        return {**_allow(sid, principal, ["kms:Decrypt", "kms:GenerateDataKey*"]), "Condition": condition}
    if kind < 0.77:
        return _allow(sid, _arn(other), USE)
    if kind < 0.82:
        via = {"kms:CallerAccount": account_id, "kms:ViaService": f"{draw.pick(SERVICES)}.{region}.amazonaws.com"}
        return {**_allow(sid, {"AWS": "*"}, USE), "Condition": {"StringEquals": via}}
    if kind < 0.90:
        condition = {"StringEquals": {"aws:PrincipalOrgID": "o-fake"}}
        return {**_allow(sid, {"AWS": "*"}, ["kms:Decrypt"]), "Condition": condition}
    if kind < 0.95:
        return _allow(sid, {"AWS": f"AROA{draw.hexes(16).upper()}{number}"}, USE)
    if kind < 0.96:
        return {
            "Sid": sid,
            "Effect": "Deny",
            "NotPrincipal": _arn(account_id),
            "NotAction": "kms:Describe*",
            "Resource": "*",
        }
    grants = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    actions = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
    return {**_allow(sid, _arn(account_id, f"role/app-{draw.between(1, 40)}"), actions), "Condition": grants}
