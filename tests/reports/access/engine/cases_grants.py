"""Cases for grants."""

from __future__ import annotations

from reports.access.engine.model import KeyFacts
from tests.reports.access.engine.cases import (
    APP,
    CHECKMARX,
    KEY,
    OUTSIDER,
    OWNER,
    SISTER,
    GrantCase,
    allow,
    aws,
    deny,
    root,
)

GRANTS = "KMS developer guide: grants"
MODEL = "API reference: ListGrants"
RETIRE = "KMS developer guide: retiring and revoking grants"
LOGIC = "IAM user guide: an explicit Deny wins"
INFRA = f"arn:aws:sts::{OWNER}:assumed-role/aws:ec2-infrastructure/i-0abc"
VOLUME = {"EncryptionContextSubset": {"aws:ebs:id": "vol-1"}}
RDS = "rds.eu-west-1.amazonaws.com"

CASES = [
    GrantCase("grant-role", GRANTS, {"grantee_principal": APP}, [f"owner_direct {APP} {OWNER} =Decrypt | nothing"]),
    GrantCase(
        "grant-own-account", GRANTS, {"grantee_principal": root()}, [f"owner_delegated {root()} {OWNER} =Decrypt"]
    ),
    GrantCase(
        "grant-outsider",
        f"{GRANTS}: independent of the key policy",
        {"grantee_principal": root(OUTSIDER)},
        [f"external {root(OUTSIDER)} {OUTSIDER} =Decrypt"],
    ),
    GrantCase(
        "grant-outsider-role",
        GRANTS,
        {"grantee_principal": f"arn:aws:iam::{OUTSIDER}:role/x"},
        [f"external arn:aws:iam::{OUTSIDER}:role/x {OUTSIDER}"],
    ),
    GrantCase(
        "grant-vendor", GRANTS, {"grantee_principal": root(CHECKMARX)}, [f"vendor {root(CHECKMARX)} {CHECKMARX}"]
    ),
    GrantCase("grant-sister", GRANTS, {"grantee_principal": root(SISTER)}, [f"organization {root(SISTER)} {SISTER}"]),
    GrantCase(
        "grant-session",
        f"{GRANTS}: created by services",
        {"grantee_principal": INFRA, "constraints": VOLUME, "operations": ["Decrypt", "CreateGrant"]},
        [f"owner_direct {INFRA} {OWNER} =CreateGrant,Decrypt | encryption context aws:ebs:id=vol-1"],
    ),
    GrantCase(
        "grant-retiring-service",
        RETIRE,
        {"grantee_principal": INFRA, "retiring_principal": "ec2.eu-west-1.amazonaws.com"},
        [f"owner_direct {INFRA} {OWNER} =Decrypt", "aws_service ec2.eu-west-1.amazonaws.com - =RetireGrant"],
    ),
    GrantCase(
        "grant-retiring-outsider",
        RETIRE,
        {"grantee_principal": APP, "retiring_principal": root(OUTSIDER)},
        [f"owner_direct {APP} {OWNER} =Decrypt", f"external {root(OUTSIDER)} {OUTSIDER} =RetireGrant"],
    ),
    GrantCase(
        "grant-retiring-service-field",
        MODEL,
        {"grantee_service_principal": RDS, "retiring_service_principal": RDS},
        [f"aws_service {RDS} - =Decrypt", f"aws_service {RDS} - =RetireGrant"],
    ),
    GrantCase(
        "grant-retiring-grantee",
        f"{RETIRE}: the grantee may already have RetireGrant",
        {"grantee_principal": APP, "retiring_principal": APP, "operations": ["Decrypt", "RetireGrant"]},
        [f"owner_direct {APP} {OWNER} =Decrypt,RetireGrant"],
    ),
    GrantCase(
        "grant-retiring-grantee-only",
        RETIRE,
        {"grantee_principal": APP, "retiring_principal": APP},
        [f"owner_direct {APP} {OWNER} =Decrypt", f"owner_direct {APP} {OWNER} =RetireGrant"],
    ),
    GrantCase(
        "grant-issued-outside",
        f"{RETIRE}: the issuing account can retire the grant",
        {"grantee_principal": APP, "issuing_account": root(OUTSIDER)},
        [f"owner_direct {APP} {OWNER} =Decrypt", f"external {root(OUTSIDER)} {OUTSIDER} =RetireGrant"],
    ),
    GrantCase(
        "grant-issued-and-retired-outside",
        RETIRE,
        {"grantee_principal": APP, "issuing_account": root(OUTSIDER), "retiring_principal": root(OUTSIDER)},
        [f"owner_direct {APP} {OWNER} =Decrypt", f"external {root(OUTSIDER)} {OUTSIDER} =RetireGrant"],
    ),
    GrantCase(
        "grant-service-field",
        MODEL,
        {"grantee_service_principal": RDS, "constraints": {"SourceArn": f"arn:aws:rds:eu-west-1:{OWNER}:db:d"}},
        [f"aws_service {RDS} - =Decrypt | only for arn:aws:rds:eu-west-1:{OWNER}:db:d"],
    ),
    GrantCase(
        "grant-service-as-grantee",
        MODEL,
        {"grantee_principal": "dynamodb.eu-west-1.amazonaws.com"},
        ["aws_service dynamodb.eu-west-1.amazonaws.com - =Decrypt"],
    ),
    GrantCase("grant-no-grantee", f"{MODEL}: the field may be missing", {}, ["unknown * - =Decrypt"]),
    GrantCase(
        "grant-deleted",
        GRANTS,
        {"grantee_principal": "AROAEXAMPLEEXAMPLE123"},
        ["deleted AROAEXAMPLEEXAMPLE123 - =Decrypt"],
    ),
    GrantCase(
        "grant-wildcard",
        GRANTS,
        {"grantee_principal": f"arn:aws:iam::{OWNER}:role/*"},
        [f"unknown arn:aws:iam::{OWNER}:role/* {OWNER} =Decrypt"],
    ),
    GrantCase("grant-nonsense", GRANTS, {"grantee_principal": "me"}, ["unknown me - =Decrypt"]),
    GrantCase(
        "grant-constraint-equals",
        f"{GRANTS}: constraints",
        {"grantee_principal": APP, "constraints": {"EncryptionContextEquals": {"a": "1", "b": "2"}}},
        [f"owner_direct {APP} {OWNER} | only encryption context a=1, b=2"],
    ),
    GrantCase(
        "grant-constraint-on-metadata",
        f"{GRANTS}: constraints do not apply to DescribeKey",
        {"grantee_principal": APP, "operations": ["DescribeKey"], "constraints": VOLUME},
        [f"owner_direct {APP} {OWNER} =DescribeKey | nothing"],
    ),
    GrantCase(
        "grant-constraint-on-some-operations",
        f"{GRANTS}: constraints do not apply to DescribeKey and RetireGrant; created grants must have them (GrantConstraints)",
        {
            "grantee_principal": APP,
            "operations": ["CreateGrant", "Decrypt", "DescribeKey", "RetireGrant"],
            "constraints": VOLUME,
        },
        [
            (
                f"owner_direct {APP} {OWNER} =CreateGrant,Decrypt,DescribeKey,RetireGrant "
                "| encryption context aws:ebs:id=vol-1; DescribeKey and RetireGrant without encryption context"
            )
        ],
    ),
    GrantCase(
        "grant-two-constraints",
        f"{MODEL}: SourceArn does not apply to RetireGrant",
        {
            "grantee_service_principal": RDS,
            "operations": ["Decrypt", "DescribeKey", "RetireGrant"],
            "constraints": {**VOLUME, "SourceArn": f"arn:aws:rds:eu-west-1:{OWNER}:db:d"},
        },
        [
            (
                f"aws_service {RDS} - =Decrypt,DescribeKey,RetireGrant | encryption context aws:ebs:id=vol-1; "
                f"only for arn:aws:rds:eu-west-1:{OWNER}:db:d; DescribeKey and RetireGrant without encryption context; "
                "RetireGrant for any source"
            ),
        ],
    ),
    GrantCase(
        "grant-constraint-null",
        MODEL,
        {"grantee_principal": APP, "constraints": "{}"},
        [f"owner_direct {APP} {OWNER} | nothing"],
    ),
    GrantCase(
        "grant-constraint-unknown",
        MODEL,
        {"grantee_principal": APP, "constraints": {"Weather": "fine"}},
        [f"owner_direct {APP} {OWNER} | unknown constraint Weather"],
    ),
    GrantCase(
        "grant-constraint-unreadable",
        MODEL,
        {"grantee_principal": APP, "constraints": "{"},
        [f"owner_direct {APP} {OWNER} | an invalid constraint"],
    ),
    GrantCase(
        "grant-operations-unreadable",
        MODEL,
        {"grantee_principal": APP, "operations": "Decrypt"},
        [f"unknown {APP} {OWNER}"],
    ),
    GrantCase(
        "grant-operations-empty", MODEL, {"grantee_principal": APP, "operations": []}, [f"unknown {APP} {OWNER}"]
    ),
    GrantCase(
        "grant-operations-unknown",
        MODEL,
        {"grantee_principal": APP, "operations": ["Decrypt", "Transmogrify"]},
        [f"unknown {APP} {OWNER} =Transmogrify", f"owner_direct {APP} {OWNER} =Decrypt"],
    ),
    GrantCase(
        "grant-operations-not-grantable",
        MODEL,
        {"grantee_principal": APP, "operations": ["PutKeyPolicy"]},
        [f"unknown {APP} {OWNER} =PutKeyPolicy"],
    ),
    GrantCase(
        "grant-all-operations",
        MODEL,
        {
            "grantee_principal": root(OUTSIDER),
            "operations": [
                "Decrypt",
                "Encrypt",
                "GenerateDataKey",
                "GenerateDataKeyWithoutPlaintext",
                "ReEncryptFrom",
                "ReEncryptTo",
                "Sign",
                "Verify",
                "GetPublicKey",
                "CreateGrant",
                "RetireGrant",
                "DescribeKey",
                "GenerateDataKeyPair",
                "GenerateDataKeyPairWithoutPlaintext",
                "GenerateMac",
                "VerifyMac",
                "DeriveSharedSecret",
                "Encapsulate",
                "Decapsulate",
            ],
        },
        [f"external {root(OUTSIDER)} {OUTSIDER} #19"],
    ),
    GrantCase(
        "grant-key-kind",
        "KMS developer guide: key type reference",
        {"grantee_principal": APP, "operations": ["Decrypt", "Sign"]},
        [f"owner_direct {APP} {OWNER} =Sign"],
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", key_spec="ECC_NIST_P256", key_usage="SIGN_VERIFY"),
    ),
    GrantCase(
        "grant-allow-changes-nothing",
        GRANTS,
        {"grantee_principal": APP},
        [f"owner_direct {APP} {OWNER} =Decrypt"],
        statements=[allow(aws(root()), "kms:*")],
    ),
    GrantCase("grant-denied", LOGIC, {"grantee_principal": root(OUTSIDER)}, [], statements=[deny()]),
    GrantCase(
        "grant-denied-in-part",
        LOGIC,
        {"grantee_principal": APP, "operations": ["Decrypt", "Encrypt"]},
        [f"owner_direct {APP} {OWNER} =Encrypt"],
        statements=[deny(aws(APP), "kms:Decrypt")],
    ),
    GrantCase(
        "grant-denied-by-account",
        LOGIC,
        {"grantee_principal": f"arn:aws:iam::{OUTSIDER}:role/x"},
        [],
        statements=[deny(aws(root(OUTSIDER)))],
    ),
    GrantCase(
        "grant-denied-by-organization",
        LOGIC,
        {"grantee_principal": root(OUTSIDER)},
        [],
        statements=[deny(when={"StringNotEquals": {"aws:PrincipalOrgID": "o-ours000000"}})],
    ),
    GrantCase(
        "grant-of-ours-not-denied",
        LOGIC,
        {"grantee_principal": APP},
        [f"owner_direct {APP} {OWNER} =Decrypt"],
        statements=[deny(when={"StringNotEquals": {"aws:PrincipalOrgID": "o-ours000000"}})],
    ),
    GrantCase(
        "grant-denied-conditionally",
        f"{LOGIC}; a Deny that can be avoided protects nothing",
        {"grantee_principal": root(OUTSIDER)},
        [f"external {root(OUTSIDER)} {OUTSIDER}"],
        statements=[deny(when={"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}})],
    ),
    GrantCase(
        "grant-denied-by-context",
        f"{LOGIC}; the constraint sets the encryption context",
        {"grantee_principal": APP, "constraints": VOLUME, "operations": ["Decrypt", "DescribeKey"]},
        [f"owner_direct {APP} {OWNER} =DescribeKey"],
        statements=[deny(when={"StringEquals": {"kms:EncryptionContext:aws:ebs:id": "vol-1"}})],
    ),
    GrantCase(
        "grant-denied-by-other-context",
        LOGIC,
        {"grantee_principal": APP, "constraints": VOLUME},
        [f"owner_direct {APP} {OWNER} =Decrypt"],
        statements=[deny(when={"StringEquals": {"kms:EncryptionContext:aws:ebs:id": "vol-2"}})],
    ),
    GrantCase(
        "grant-deny-unknown",
        "a Deny that cannot be evaluated makes access unknown",
        {"grantee_principal": APP},
        [f"unknown {APP} {OWNER} =Decrypt"],
        statements=[deny(when={"StringEquals": {"foo:bar": "x"}})],
    ),
    GrantCase(
        "grant-deny-without-resource",
        "KMS developer guide: a statement without Resource has no effect",
        {"grantee_principal": APP},
        [f"owner_direct {APP} {OWNER}"],
        statements=[deny(Resource=None)],
    ),
    *(
        GrantCase(
            f"grant-{constraint}-and-{name}",
            f"{GRANTS}: EncryptionContextEquals is the whole encryption context, EncryptionContextSubset a part of it",
            {"grantee_principal": APP, "constraints": {f"EncryptionContext{constraint.capitalize()}": {"a": "1"}}},
            [f"owner_direct {APP} {OWNER} =Decrypt"] if usable else [],
            statements=[deny(when=when)],
        )
        for constraint, name, when, usable in (
            ("equals", "absent-key", {"Null": {"kms:EncryptionContext:b": "true"}}, False),
            ("equals", "extra-key", {"StringNotEquals": {"kms:EncryptionContext:b": "2"}}, False),
            ("equals", "present-key", {"Null": {"kms:EncryptionContext:a": "false"}}, False),
            ("equals", "other-key", {"Null": {"kms:EncryptionContext:b": "false"}}, True),
            ("equals", "keys", {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}}, False),
            ("equals", "other-keys", {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "b"}}, True),
            ("subset", "absent-key", {"Null": {"kms:EncryptionContext:b": "true"}}, True),
        )
    ),
    GrantCase(
        "grant-to-an-invalid-principal-denied-to-everyone",
        "IAM user guide: an explicit Deny wins",
        {"grantee_principal": "somebody"},
        [],
        statements=[deny()],
    ),
    GrantCase(
        "grant-deny-retire",
        "KMS developer guide: RetireGrant in a key policy has no effect",
        {"grantee_principal": APP, "operations": ["RetireGrant"]},
        [f"owner_direct {APP} {OWNER} =RetireGrant"],
        statements=[deny("*", "kms:RetireGrant")],
    ),
]
