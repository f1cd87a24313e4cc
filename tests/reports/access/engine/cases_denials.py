"""Cases for Deny statements, and for the access that remains."""

from __future__ import annotations

from tests.reports.access.engine.cases import (
    ADMIN,
    APP,
    CHECKMARX,
    ORGANIZATION_ID,
    OUTSIDER,
    OWNER,
    SISTER,
    Case,
    allow,
    aws,
    deny,
    root,
    service,
)

LOGIC = "IAM user guide: policy evaluation logic, an explicit Deny wins"
NOT_PRINCIPAL = "IAM user guide: NotPrincipal with Deny"
LOCK_OUT = "KMS developer guide: default key policy, unmanageable keys"
S3 = "s3.eu-west-1.amazonaws.com"
SESSION = f"arn:aws:sts::{OWNER}:assumed-role/app/run-1"
LOCKED = frozenset({"lock_out"})
OURS = {"StringNotEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}}
EVERYONE = allow("*")
ROOT = allow(aws(root()), "kms:*", Sid="Root")
ROOT_ALL = f"owner_delegated {root()} {OWNER}"

CASES = [
    Case("deny-all", LOGIC, [ROOT, EVERYONE, deny()], [], lint_findings=LOCKED),
    Case(
        "deny-one-operation",
        LOGIC,
        [allow("*", ["kms:Decrypt", "kms:Encrypt"]), deny("*", "kms:Decrypt")],
        ["public * - =Encrypt", f"owner_direct * {OWNER} =Encrypt"],
    ),
    Case(
        "deny-not-action",
        LOGIC,
        [allow("*", ["kms:Decrypt", "kms:Encrypt"]), deny("*", None, NotAction="kms:Decrypt")],
        ["public * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"],
    ),
    Case("deny-role", LOGIC, [allow(aws(APP, ADMIN)), deny(aws(APP))], [f"owner_direct {ADMIN} {OWNER}"]),
    Case(
        "deny-account-means-its-roles",
        f"{LOGIC}; an account stands for its principals",
        [allow(aws(APP)), deny(aws(root()))],
        [],
    ),
    Case(
        "deny-bare-account-means-its-roles",
        LOGIC,
        [allow(aws(f"arn:aws:iam::{OUTSIDER}:role/x")), deny(aws(OUTSIDER))],
        [],
    ),
    Case("deny-other-account", LOGIC, [allow(aws(APP)), deny(aws(root(OUTSIDER)))], [f"owner_direct {APP} {OWNER}"]),
    Case(
        "deny-role-leaves-account",
        LOGIC,
        [ROOT, deny(aws(APP), Sid="NotApp")],
        [f"{ROOT_ALL} #46 | except {APP} (denied by NotApp)"],
    ),
    Case(
        "deny-while-the-key-is-used",
        "KMS developer guide: kms:TrailingDaysWithoutKeyUsage; the key can be disabled once it was not used for so long",
        [
            ROOT,
            deny(
                "*",
                ["kms:DisableKey", "kms:ScheduleKeyDeletion"],
                {"NumericLessThan": {"kms:TrailingDaysWithoutKeyUsage": "30"}},
            ),
        ],
        [
            f"{ROOT_ALL} =DisableKey,ScheduleKeyDeletion | except if kms:TrailingDaysWithoutKeyUsage is less than 30",
            f"{ROOT_ALL} -DisableKey,ScheduleKeyDeletion | nothing",
        ],
    ),
    Case("deny-role-means-its-sessions", LOGIC, [allow(aws(SESSION)), deny(aws(APP))], []),
    Case("deny-session-leaves-role", LOGIC, [allow(aws(APP)), deny(aws(SESSION))], [f"owner_direct {APP} {OWNER}"]),
    Case(
        "deny-service-leaves-identities",
        LOGIC,
        [EVERYONE, deny(service("s3.amazonaws.com"))],
        ["public * -", f"owner_direct * {OWNER}"],
    ),
    Case("deny-star-means-services", LOGIC, [allow(service("s3.amazonaws.com")), deny()], []),
    Case(
        "deny-partial-wildcard-protects-nothing",
        "IAM user guide: no wildcard inside a principal",
        [allow(aws(APP)), deny(aws(f"arn:aws:iam::{OWNER}:role/*"))],
        [f"owner_direct {APP} {OWNER}"],
    ),
    Case("deny-deleted", LOGIC, [allow(aws("AROAEXAMPLEEXAMPLE123")), deny()], []),
    Case(
        "deny-outsiders",
        "data perimeter: everyone outside the organization",
        [EVERYONE, deny(when=OURS)],
        ["organization * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"],
    ),
    Case(
        "deny-outsiders-and-vendor",
        "data perimeter",
        [allow(aws(root(CHECKMARX), root(SISTER))), deny(when=OURS)],
        [f"organization {root(SISTER)} {SISTER}"],
    ),
    Case(
        "deny-outsiders-if-exists",
        "callers without an organization are not denied",
        [EVERYONE, deny(when={"StringNotEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION_ID}})],
        ["organization * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"],
    ),
    Case(
        "deny-foreign-only",
        "a Deny with a positive operator does not apply when the key is absent",
        [EVERYONE, deny(when={"StringEquals": {"aws:PrincipalOrgID": "o-foreign111"}})],
        ["public * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"],
    ),
    Case(
        "deny-other-callers",
        LOGIC,
        [EVERYONE, deny(when={"StringNotEquals": {"kms:CallerAccount": [OWNER, OUTSIDER]}})],
        [f"external * {OUTSIDER}", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-other-callers-but-services",
        LOGIC,
        [EVERYONE, deny(when={"StringNotEquals": {"aws:PrincipalAccount": OWNER}})],
        [f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-one-account",
        LOGIC,
        [EVERYONE, deny(when={"StringEquals": {"kms:CallerAccount": OUTSIDER}})],
        ["public * - =Decrypt", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-any-caller",
        "StringLike * always holds",
        [EVERYONE, deny(when={"StringLike": {"kms:CallerAccount": "*"}})],
        [],
    ),
    Case(
        "deny-without-tag",
        "anyone can set tags",
        [EVERYONE, deny(when={"StringNotEquals": {"aws:PrincipalTag/team": "a"}}, Sid="Untagged")],
        ["public * - | except if aws:PrincipalTag/team is not a (denied by Untagged)", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-outside-service",
        "the path, in a Deny",
        [EVERYONE, deny(when={"StringNotEquals": {"kms:ViaService": S3}})],
        ["public_via_service * - | except if kms:ViaService is not", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-allowed-path",
        "Allow and Deny on the same path leave no access",
        [
            allow("*", when={"StringEquals": {"kms:ViaService": S3}}),
            deny(when={"StringEquals": {"kms:ViaService": S3}}),
        ],
        [],
    ),
    Case(
        "deny-one-of-two-paths",
        "another path remains",
        [
            allow("*", when={"StringEquals": {"kms:ViaService": [S3, "ec2.eu-west-1.amazonaws.com"]}}),
            deny(when={"StringEquals": {"kms:ViaService": S3}}),
        ],
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-outside-network",
        "the network, in a Deny",
        [EVERYONE, deny(when={"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}})],
        ["organization * -", "external * -", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-outside-network-but-services",
        "a Deny on addresses that exempts service requests",
        [
            EVERYONE,
            deny(when={"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}, "Bool": {"aws:ViaAWSService": "false"}}),
        ],
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-inner-network",
        "a range inside a range",
        [
            allow("*", when={"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
            deny(when={"IpAddress": {"aws:SourceIp": "203.0.113.0/25"}}),
        ],
        ["organization * -", "external * -", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-same-network",
        "the same range",
        [
            allow("*", when={"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
            deny(when={"IpAddress": {"aws:SourceIp": "203.0.112.0/22"}}),
        ],
        [],
    ),
    Case(
        "deny-outside-endpoint",
        "the endpoint, in a Deny",
        [ROOT, EVERYONE, deny("*", "kms:Decrypt", {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}, Sid="Vpce")],
        [
            f"{ROOT_ALL} =Decrypt | except if aws:SourceVpce is not vpce-1 (denied by Vpce)",
            f"{ROOT_ALL} #45 | nothing",
            "organization * -",
            "external * -",
            f"owner_direct * {OWNER}",
        ],
    ),
    Case(
        "deny-plain-text",
        "KMS accepts only TLS",
        [allow(aws(APP)), deny(when={"Bool": {"aws:SecureTransport": "false"}})],
        [f"owner_direct {APP} {OWNER} =Decrypt | nothing"],
    ),
    Case(
        "deny-without-context",
        "encryption context",
        [
            allow(aws(APP), ["kms:Decrypt", "kms:DescribeKey"]),
            deny("*", "kms:*", {"Null": {"kms:EncryptionContext:app": "true"}}),
        ],
        [f"owner_direct {APP} {OWNER} =Decrypt"],
    ),
    Case(
        "deny-any-context",
        "Null on a key that only some operations carry",
        [
            allow(aws(APP), ["kms:Decrypt", "kms:DescribeKey"]),
            deny("*", "kms:*", {"Null": {"kms:EncryptionContext:app": "false"}}),
        ],
        [
            f"owner_direct {APP} {OWNER} =Decrypt | except if kms:EncryptionContext:app is present",
            f"owner_direct {APP} {OWNER} =DescribeKey | nothing",
        ],
    ),
    Case(
        "deny-two-halves",
        "two Deny statements that leave no value",
        [
            EVERYONE,
            deny(when={"StringEquals": {"aws:PrincipalTag/t": "a"}}),
            deny(when={"StringNotEquals": {"aws:PrincipalTag/t": "a"}}),
        ],
        [],
    ),
    Case(
        "deny-conjunction",
        "several keys of a Deny are joined by AND",
        [
            EVERYONE,
            deny(
                when={
                    "StringNotEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID},
                    "Bool": {"aws:MultiFactorAuthPresent": "false"},
                }
            ),
        ],
        ["public * - | except if", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-services-perimeter",
        "Deny with aws:PrincipalIsAWSService",
        [EVERYONE, deny(when=OURS | {"Bool": {"aws:PrincipalIsAWSService": "false"}})],
        ["organization * - =Decrypt", f"owner_direct * {OWNER} =Decrypt", "aws_service * - =Decrypt"],
    ),
    Case(
        "deny-unknown-key",
        "a Deny that cannot be evaluated makes access unknown",
        [EVERYONE, deny(when={"StringEquals": {"foo:bar": "x"}})],
        ["unknown * - =Decrypt"],
    ),
    Case(
        "deny-unknown-key-and-false",
        "a false element beside an unknown one",
        [EVERYONE, deny(when={"StringEquals": {"foo:bar": "x", "aws:ResourceAccount": OUTSIDER}})],
        ["public * -", f"owner_direct * {OWNER}"],
    ),
    Case(
        "deny-unknown-operator",
        "a Deny that cannot be evaluated makes access unknown",
        [allow(aws(APP)), deny(when={"StringResembles": {"aws:PrincipalArn": "x"}})],
        [f"unknown {APP} {OWNER} =Decrypt"],
    ),
    Case(
        "deny-unreadable",
        "an unreadable statement",
        [allow(aws(APP)), deny("*", 7)],
        [f"owner_direct {APP} {OWNER}", "unknown * -"],
        lint_findings=frozenset({"unreadable"}),
    ),
    Case(
        "deny-principal-arn",
        LOGIC,
        [allow(aws(root()), "kms:*"), deny("*", "kms:Decrypt", {"ArnNotLike": {"aws:PrincipalArn": [APP]}})],
        [f"{ROOT_ALL} =Decrypt | except if aws:PrincipalArn is not {APP}", f"{ROOT_ALL} #45 -Decrypt"],
    ),
    Case(
        "deny-principal-arn-role",
        LOGIC,
        [allow(aws(APP, ADMIN)), deny("*", "kms:Decrypt", {"ArnNotEquals": {"aws:PrincipalArn": APP}})],
        [f"owner_direct {APP} {OWNER} | nothing"],
    ),
    Case(
        "deny-principal-arn-session",
        "aws:PrincipalArn of a session is its role",
        [allow(aws(SESSION)), deny("*", "kms:Decrypt", {"ArnNotEquals": {"aws:PrincipalArn": APP}})],
        [f"owner_direct {SESSION} {OWNER}"],
    ),
    # NotPrincipal
    Case(
        "deny-not-principal",
        NOT_PRINCIPAL,
        [EVERYONE, deny(None, NotPrincipal=aws(APP, root()))],
        [f"owner_direct * {OWNER} =Decrypt | only the root user; unknown for {APP}"],
        lint_findings=LOCKED,
    ),
    Case(
        "deny-not-principal-user",
        NOT_PRINCIPAL,
        [
            allow(aws(f"arn:aws:iam::{OWNER}:user/bob", APP)),
            deny(None, NotPrincipal=aws(f"arn:aws:iam::{OWNER}:user/bob", root())),
        ],
        [f"owner_direct arn:aws:iam::{OWNER}:user/bob {OWNER}"],
    ),
    Case(
        "deny-not-principal-without-account",
        f"{NOT_PRINCIPAL}: the account has to be listed as well",
        [
            ROOT,
            allow(aws(f"arn:aws:iam::{OWNER}:user/bob")),
            deny(None, NotPrincipal=aws(f"arn:aws:iam::{OWNER}:user/bob")),
        ],
        [],
        lint_findings=LOCKED,
    ),
    Case(
        "deny-not-principal-account",
        f"{NOT_PRINCIPAL}: with only the account listed, only its root user is exempt",
        [ROOT, allow(aws(APP)), deny(None, NotPrincipal=aws(root()))],
        [f"{ROOT_ALL} #46 | only the root user"],
        silent=LOCKED,
    ),
    Case(
        "deny-not-principal-role",
        f"{NOT_PRINCIPAL}: a session is not its role",
        [allow(aws(APP)), deny(None, NotPrincipal=aws(APP, root()))],
        [f"unknown {APP} {OWNER} =Decrypt"],
    ),
    Case(
        "deny-not-principal-session",
        NOT_PRINCIPAL,
        [allow(aws(APP)), deny(None, NotPrincipal=aws(APP, SESSION, root()))],
        [f"owner_direct {APP} {OWNER} =Decrypt"],
    ),
    Case(
        "deny-not-principal-service",
        NOT_PRINCIPAL,
        [allow(service("s3.amazonaws.com", "sns.amazonaws.com")), deny(None, NotPrincipal=service("s3.amazonaws.com"))],
        ["aws_service s3.amazonaws.com -"],
    ),
    Case(
        "deny-not-principal-exempts-service",
        f"{NOT_PRINCIPAL}: the listed service keeps the access that everyone has",
        [EVERYONE, deny(None, NotPrincipal=service("logs.amazonaws.com"))],
        ["aws_service logs.amazonaws.com -"],
    ),
    Case(
        "deny-not-principal-of-one-operation-exempts-service",
        f"{NOT_PRINCIPAL}: the listed service keeps the access that everyone has",
        [
            allow("*", ["kms:Decrypt", "kms:Encrypt"]),
            deny(None, "kms:Encrypt", NotPrincipal=service("logs.amazonaws.com")),
        ],
        ["public * - =Decrypt", f"owner_direct * {OWNER} =Decrypt", "aws_service logs.amazonaws.com - =Encrypt"],
    ),
    Case(
        "deny-not-principal-star",
        NOT_PRINCIPAL,
        [allow(aws(APP)), deny(None, NotPrincipal="*")],
        [f"owner_direct {APP} {OWNER}"],
    ),
    # lock-out
    Case(
        "lock-out-deny-put",
        LOCK_OUT,
        [ROOT, deny("*", "kms:PutKeyPolicy")],
        [f"{ROOT_ALL} #45 -PutKeyPolicy"],
        lint_findings=LOCKED,
    ),
    Case(
        "lock-out-outsider-only",
        f"{LOCK_OUT}: a foreign account cannot change the policy",
        [allow(aws(root(OUTSIDER)), "kms:*"), allow(aws(APP))],
        [f"external {root(OUTSIDER)} {OUTSIDER}", f"owner_direct {APP} {OWNER}"],
        lint_findings=LOCKED,
    ),
    Case(
        "lock-out-none-role",
        LOCK_OUT,
        [allow(aws(ADMIN), "kms:*")],
        [f"owner_direct {ADMIN} {OWNER}"],
        silent=LOCKED,
        lint_findings=frozenset({"root_delegation_missing"}),
    ),
    Case(
        "lock-out-unknown",
        f"{LOCK_OUT}: not reported when access is unknown",
        [allow(aws(root()), "kms:*", {"StringEquals": {"foo:bar": "x"}})],
        [f"unknown {root()} {OWNER}"],
        silent=LOCKED,
    ),
    Case(
        "lock-out-missing-resource",
        LOCK_OUT,
        [allow(aws(root()), "kms:*", Resource=None), allow(aws(APP))],
        [f"owner_direct {APP} {OWNER}"],
        lint_findings=LOCKED,
    ),
    Case(
        "lock-out-deny-with-exception",
        LOCK_OUT,
        [ROOT, deny("*", "kms:*", {"ArnNotEquals": {"aws:PrincipalArn": ADMIN}})],
        [f"{ROOT_ALL} #46"],
        silent=LOCKED,
    ),
]
