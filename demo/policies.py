"""Policy documents of the demo organization: correct ones as the vendors document them, and common mistakes."""

from __future__ import annotations

import json
from typing import Any

CHECKMARX_ACCOUNT = "754581900792"
CERBY_ACCOUNT = "749452252575"
CERBY_ROLE = f"arn:aws:iam::{CERBY_ACCOUNT}:role/production-kms-byo-key-access-role"
STRANGER_ACCOUNT = "999988887777"  # an external account without a vendor profile

USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
GRANT = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
READ = ["kms:Describe*", "kms:List*", "kms:Get*"]
ADMINISTER = [
    *("kms:Create*", "kms:Describe*", "kms:Enable*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Revoke*"),
    *("kms:Disable*", "kms:Get*", "kms:Delete*", "kms:TagResource", "kms:UntagResource"),
    *("kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"),
]

Statement = dict[str, Any]


def root(account: str) -> str:
    """The account as a principal."""
    return f"arn:aws:iam::{account}:root"


def document(*statements: Statement) -> str:
    """A policy document as text."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(sid: str, principal: Any, actions: str | list[str], **elements: Any) -> Statement:
    """A statement of a key policy; `principal` is an AWS principal, a list of them, or a complete Principal element."""
    element = principal if isinstance(principal, dict) else {"AWS": principal}
    return {"Sid": sid, "Effect": "Allow", "Principal": element, "Action": actions, "Resource": "*", **elements}


def delegation(account: str) -> Statement:
    """The default statement of the console: delegates to the IAM policies of the account."""
    return allow("Enable IAM User Permissions", root(account), "kms:*")


def vendor_use(account: str, vendor: str) -> Statement:
    """Use of the key by an administrator of the account and by the account of the vendor."""
    return allow("Allow use of the key", [f"arn:aws:iam::{account}:role/SecurityAdministrator", root(vendor)], USE)


def vendor_grants(account: str, vendor: str) -> Statement:
    """Grants by the same two principals, for AWS resources only."""
    principals = [f"arn:aws:iam::{account}:role/SecurityAdministrator", root(vendor)]
    condition = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return allow("Allow attachment of persistent resources", principals, GRANT, Condition=condition)


def administration(account: str) -> Statement:
    """Administration of the key without its use."""
    administrator = f"arn:aws:iam::{account}:role/SecurityAdministrator"
    return allow("Allow access for Key Administrators", administrator, ADMINISTER)


def appliance(account: str) -> list[Statement]:
    """Two statements that allow the Plerion roles of `account` (or `${aws:ResourceAccount}`), matched by role tags."""
    decrypt = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey", "kms:DescribeKey"]
    tagged = {
        "Grant PlerionApplianceRole access to decrypt": (decrypt, {"aws:PrincipalTag/PlerionApplianceRole": "True"}),
        "Grant PlerionAccessRole access to key metadata": (READ, {"aws:PrincipalTag/RolePurpose": "PlerionAccess"}),
    }
    return [
        allow(sid, "*", actions, Condition={"StringEquals": {"aws:PrincipalAccount": account, **tag}})
        for sid, (actions, tag) in tagged.items()
    ]


def trust(principal: str | dict[str, str], external_id: str | None) -> str:
    """A trust policy for an AWS principal or a complete Principal element, with an external id (None: not required)."""
    element = {"AWS": principal} if isinstance(principal, str) else principal
    statement: Statement = {"Effect": "Allow", "Principal": element, "Action": "sts:AssumeRole"}
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return document(statement)


def identity(sid: str, actions: str | list[str], resources: str | list[str], **elements: Any) -> str:
    """A one-statement policy for a role."""
    return document({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **elements})
