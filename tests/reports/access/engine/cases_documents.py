"""The key policies that vendors request, with exactly the access that their documentation describes."""

from __future__ import annotations

from typing import Any

from tests.reports.access.engine.cases import CHECKMARX, OUTSIDER, OWNER, SISTER, Case, allow, aws, root

GRANTED = "CreateGrant,ListGrants,RevokeGrant"
VIA = "only through"
CHECKMARX_GUIDE = "Checkmarx One: single-tenant environment with your KMS key"
CERBY_GUIDE = "Cerby: AWS KMS vault, default key policy and a role in the customer's account"
PLERION_GUIDE = "Plerion: access to keys that do not delegate to IAM"
USER = f"arn:aws:iam::{OWNER}:user/Administrator"
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
USED = (
    "Decrypt,DescribeKey,Encrypt,GenerateDataKey,GenerateDataKeyPair,GenerateDataKeyPairWithoutPlaintext,"
    "GenerateDataKeyWithoutPlaintext,ReEncryptFrom,ReEncryptTo"
)
GRANTS = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
ADMINISTRATION = [
    f"kms:{verb}*"
    for verb in ("Create", "Describe", "Enable", "List", "Put", "Update", "Revoke", "Disable", "Get", "Delete")
] + ["kms:TagResource", "kms:UntagResource", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"]

ROOT = allow(aws(root()), "kms:*", Sid="Enable")
SHARED = [
    ROOT,
    allow(aws(USER), ADMINISTRATION, Sid="Administrators"),
    allow(aws(USER, root(CHECKMARX)), USE, Sid="Use"),
    allow(aws(USER, root(CHECKMARX)), GRANTS, {"Bool": {"kms:GrantIsForAWSResource": "true"}}, Sid="Grants"),
]
PLERION_USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey", "kms:DescribeKey"]
PLERION_READ = ["kms:Describe*", "kms:List*", "kms:Get*"]


def plerion(account: str) -> list[dict[str, Any]]:
    """Return both statements of the guide for an account."""
    return [
        allow(
            "*",
            PLERION_USE,
            {"StringEquals": {"aws:PrincipalAccount": account, "aws:PrincipalTag/PlerionApplianceRole": "True"}},
            Sid="Decrypt",
        ),
        allow(
            "*",
            PLERION_READ,
            {"StringEquals": {"aws:PrincipalAccount": account, "aws:PrincipalTag/RolePurpose": "PlerionAccess"}},
            Sid="Read",
        ),
    ]


APPLIANCE = "Decrypt,DescribeKey,Encrypt,GenerateDataKey,ReEncryptFrom,ReEncryptTo"
READ_ACTIONS = (
    "DescribeKey,GetKeyLastUsage,GetKeyPolicy,GetKeyRotationStatus,GetParametersForImport,GetPublicKey,"
    "ListGrants,ListKeyPolicies,ListKeyRotations,ListResourceTags"
)
SAME = [
    f"owner_direct * {OWNER} ={APPLIANCE} @Decrypt | PlerionApplianceRole=True",
    f"owner_direct * {OWNER} ={READ_ACTIONS} @Read | RolePurpose=PlerionAccess",
]

CASES = [
    Case(
        "checkmarx-shared",
        CHECKMARX_GUIDE,
        SHARED,
        [
            f"owner_delegated {root()} {OWNER} #46 @Enable",
            f"owner_direct {USER} {OWNER} @Administrators +PutKeyPolicy,CreateGrant,ScheduleKeyDeletion -Decrypt,Encrypt",
            f"owner_direct {USER} {OWNER} ={USED} @Use",
            f"vendor {root(CHECKMARX)} {CHECKMARX} ={USED} @Use | nothing",
            f"owner_direct {USER} {OWNER} ={GRANTED} @Grants",
            f"vendor {root(CHECKMARX)} {CHECKMARX} ={GRANTED} @Grants | only grants for resources of AWS services",
        ],
        silent=frozenset({"lock_out", "root_delegation_missing", "no_effect"}),
    ),
    Case(
        "checkmarx-not-no-longer-shared",
        f"{CHECKMARX_GUIDE}: sharing stopped",
        SHARED[:2],
        [f"owner_delegated {root()} {OWNER}", f"owner_direct {USER} {OWNER}"],
    ),
    Case(
        "checkmarx-use-without-grants",
        CHECKMARX_GUIDE,
        [ROOT, SHARED[2]],
        [
            f"owner_delegated {root()} {OWNER}",
            f"owner_direct {USER} {OWNER}",
            f"vendor {root(CHECKMARX)} {CHECKMARX} ={USED} -CreateGrant",
        ],
    ),
    Case(
        "checkmarx-grants-without-condition",
        CHECKMARX_GUIDE,
        [ROOT, allow(aws(root(CHECKMARX)), GRANTS)],
        [f"owner_delegated {root()} {OWNER}", f"vendor {root(CHECKMARX)} {CHECKMARX} | nothing"],
        lint_findings=frozenset({"grant_power_without_aws_resource"}),
    ),
    Case(
        "cerby-default-policy",
        CERBY_GUIDE,
        [ROOT],
        [f"owner_delegated {root()} {OWNER} +Encrypt,Decrypt,GetPublicKey,DescribeKey"],
    ),
    Case(
        "cerby-role-in-policy",
        CERBY_GUIDE,
        [
            ROOT,
            allow(
                aws(f"arn:aws:iam::{OWNER}:role/cerby"),
                ["kms:Encrypt", "kms:Decrypt", "kms:GetPublicKey", "kms:DescribeKey"],
            ),
        ],
        [
            f"owner_delegated {root()} {OWNER}",
            f"owner_direct arn:aws:iam::{OWNER}:role/cerby {OWNER} =Decrypt,DescribeKey,Encrypt,GetPublicKey",
        ],
    ),
    Case(
        "plerion-same-account",
        PLERION_GUIDE,
        plerion("${aws:ResourceAccount}"),
        SAME,
        lint_findings=frozenset({"root_delegation_missing"}),
    ),
    Case(
        "plerion-same-account-old-version",
        f"{PLERION_GUIDE}; variables need Version 2012-10-17",
        plerion("${aws:ResourceAccount}"),
        [],
        version=None,
        lint_findings=frozenset({"variables_not_resolved"}),
    ),
    Case(
        "plerion-other-account-of-ours",
        PLERION_GUIDE,
        plerion(SISTER),
        [
            f"organization * {SISTER} ={APPLIANCE} @Decrypt | PlerionApplianceRole=True",
            f"organization * {SISTER} =DescribeKey,GetKeyRotationStatus,GetPublicKey,ListGrants @Read",
        ],
    ),
    Case(
        "plerion-outside-account",
        PLERION_GUIDE,
        plerion(OUTSIDER),
        [
            f"external * {OUTSIDER} ={APPLIANCE} @Decrypt",
            f"external * {OUTSIDER} =DescribeKey,GetKeyRotationStatus,GetPublicKey,ListGrants @Read",
        ],
    ),
    Case(
        "plerion-no-delegation",
        f"{PLERION_GUIDE}: the account has no access",
        [allow(aws(USER), "kms:*")],
        [f"owner_direct {USER} {OWNER}"],
        lint_findings=frozenset({"root_delegation_missing"}),
    ),
    Case(
        "plerion-without-account",
        f"{PLERION_GUIDE}: without the account condition, anyone can set the tag",
        [allow("*", "kms:Decrypt", {"StringEquals": {"aws:PrincipalTag/PlerionApplianceRole": "True"}})],
        ["public * - =Decrypt", f"owner_direct * {OWNER}"],
    ),
    Case(
        "database-tier-service",
        "RDS on behalf of the account",
        [
            ROOT,
            allow(
                "*",
                [*USE, "kms:CreateGrant", "kms:ListGrants"],
                {"StringEquals": {"kms:CallerAccount": OWNER, "kms:ViaService": "rds.eu-west-1.amazonaws.com"}},
            ),
        ],
        [
            f"owner_delegated {root()} {OWNER}",
            f"owner_direct * {OWNER} ={USED},CreateGrant,ListGrants | {VIA} rds.eu-west-1.amazonaws.com",
        ],
    ),
    Case(
        "secret-other-account",
        "Secrets Manager: a secret shared with another account",
        [
            ROOT,
            allow(
                aws(f"arn:aws:iam::{SISTER}:role/app"),
                ["kms:Decrypt", "kms:DescribeKey"],
                {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}},
            ),
        ],
        [
            f"owner_delegated {root()} {OWNER}",
            f"organization arn:aws:iam::{SISTER}:role/app {SISTER} =Decrypt,DescribeKey | {VIA} secretsmanager.eu-west",
        ],
    ),
]
