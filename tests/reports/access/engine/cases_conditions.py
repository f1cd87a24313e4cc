"""Cases on conditions: which narrow, which do not, and which cannot be judged."""

from __future__ import annotations

import datetime as dt

from reports.access.engine.model import KeyFacts, Organization
from tests.reports.access.engine.cases import (
    APP,
    CHECKMARX,
    KEY,
    ORGANIZATION_ID,
    OUTSIDER,
    OWNER,
    SISTER,
    Case,
    allow,
    aws,
    root,
    service,
)

GLOBAL = "IAM user guide: global condition context keys"
KMS = "KMS developer guide: AWS KMS condition keys"
OPERATORS = "IAM user guide: condition operators"
SETS = "IAM user guide: multivalued context keys"
S3 = "s3.eu-west-1.amazonaws.com"
PUBLIC = ["public * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"]
NOBODY: list[str] = []
OURS = [f"owner_direct * {OWNER} =Decrypt"]
MEMBERS = ["organization * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"]
FOREIGN = "o-foreign111"
UNJUDGED = ["unknown * - =Decrypt"]


def one(name: str, rule: str, when: object, expect: list[str], **more: object) -> Case:
    """A statement that lets everyone decrypt under conditions."""
    return Case(name, rule, [allow("*", "kms:Decrypt", when)], expect, **more)  # type: ignore[arg-type] # passed through


CASES = [
    # who calls
    one("caller-owner", f"{KMS}: kms:CallerAccount", {"StringEquals": {"kms:CallerAccount": OWNER}}, OURS),
    one(
        "caller-owner-key-case",
        f"{OPERATORS}: key names have no case",
        {"StringEquals": {"KMS:calleraccount": OWNER}},
        OURS,
    ),
    one("caller-owner-operator-case", f"{OPERATORS}: operators", {"stringequals": {"kms:CallerAccount": OWNER}}, OURS),
    one(
        "caller-outsider",
        f"{KMS}: another account",
        {"StringEquals": {"kms:CallerAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt | nothing"],
    ),
    one("caller-vendor", KMS, {"StringEquals": {"kms:CallerAccount": CHECKMARX}}, [f"vendor * {CHECKMARX} =Decrypt"]),
    one("caller-sister", KMS, {"StringEquals": {"kms:CallerAccount": SISTER}}, [f"organization * {SISTER} =Decrypt"]),
    one(
        "caller-several",
        f"{OPERATORS}: several values are joined by OR",
        {"StringEquals": {"kms:CallerAccount": [OWNER, OUTSIDER]}},
        [f"external * {OUTSIDER} =Decrypt", *OURS],
    ),
    one("caller-any", f"{KMS}: a wildcard narrows nothing", {"StringLike": {"kms:CallerAccount": "*"}}, PUBLIC),
    one(
        "caller-star-is-text",
        f"{OPERATORS}: StringEquals knows no wildcard",
        {"StringEquals": {"kms:CallerAccount": "*"}},
        NOBODY,
    ),
    one(
        "caller-partial",
        f"{OPERATORS}: a tenth of all accounts is anyone",
        {"StringLike": {"kms:CallerAccount": "7*"}},
        ["public * - =Decrypt"],
    ),
    one(
        "caller-not-owner",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"kms:CallerAccount": OWNER}},
        ["public * - =Decrypt"],
    ),
    one("caller-not-outsider", f"{OPERATORS}: negated", {"StringNotEquals": {"kms:CallerAccount": OUTSIDER}}, PUBLIC),
    one(
        "caller-if-exists",
        f"{OPERATORS}: the key is always there",
        {"StringEqualsIfExists": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    one(
        "caller-for-all",
        f"{SETS}: the key is always there",
        {"ForAllValues:StringEquals": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    one(
        "caller-contradiction",
        f"{OPERATORS}: several keys are joined by AND",
        {"StringEquals": {"kms:CallerAccount": OWNER, "aws:PrincipalAccount": OUTSIDER}},
        NOBODY,
    ),
    one(
        "principal-account",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    one(
        "principal-account-number",
        f"{OPERATORS}: JSON numbers are texts",
        {"StringEquals": {"aws:PrincipalAccount": int(OUTSIDER)}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    one(
        "principal-account-numeric",
        OPERATORS,
        {"NumericEquals": {"aws:PrincipalAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    one("organization-ours", GLOBAL, {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}}, MEMBERS),
    one(
        "organization-foreign",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalOrgID": FOREIGN}},
        [f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    one(
        "organization-both",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalOrgID": [ORGANIZATION_ID, FOREIGN]}},
        [*MEMBERS, f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    one(
        "organization-pattern",
        f"{GLOBAL}: a wildcard spans organizations",
        {"StringLike": {"aws:PrincipalOrgID": "o-*"}},
        PUBLIC,
    ),
    one(
        "organization-if-exists",
        f"{OPERATORS}: a caller without organization",
        {"StringEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    one(
        "organization-for-all",
        f"{SETS}: true when absent",
        {"ForAllValues:StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    one(
        "organization-not-ours",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        ["public * - =Decrypt"],
    ),
    one(
        "organization-value-case",
        f"{OPERATORS}: values have case",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID.upper()}},
        NOBODY,
    ),
    one(
        "organization-not-known",
        "without our organization's id nothing can be said",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        ["unknown * - =Decrypt", f"unknown * {OWNER} =Decrypt"],
        organization=Organization(),
    ),
    one(
        "organization-and-account",
        f"{OPERATORS}: AND",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID, "kms:CallerAccount": SISTER}},
        [f"organization * {SISTER} =Decrypt"],
    ),
    one(
        "organization-and-outsider",
        f"{OPERATORS}: AND",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID, "kms:CallerAccount": OUTSIDER}},
        NOBODY,
    ),
    one(
        "organization-path",
        f"{GLOBAL}: aws:PrincipalOrgPaths",
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{ORGANIZATION_ID}/r-ab12/ou-prod/*"}},
        ["organization * - =Decrypt | only from organization path", f"owner_direct * {OWNER} =Decrypt"],
    ),
    one(
        "organization-path-of-another-unit",
        GLOBAL,
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{ORGANIZATION_ID}/r-ab12/ou-x/*"}},
        ["organization * - =Decrypt"],
    ),
    one("organization-path-any", GLOBAL, {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-*/r-*"}}, PUBLIC),
    one(
        "organization-path-foreign",
        GLOBAL,
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{FOREIGN}/*"}},
        [f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    one(
        "principal-arn",
        GLOBAL,
        {"ArnEquals": {"aws:PrincipalArn": APP}},
        [f"owner_direct * {OWNER} =Decrypt | only as {APP}"],
    ),
    one(
        "principal-arn-pattern",
        f"{OPERATORS}: ArnEquals is ArnLike",
        {"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/*"}},
        OURS,
    ),
    one(
        "principal-arn-outside",
        GLOBAL,
        {"StringLike": {"aws:PrincipalArn": f"arn:aws:iam::{OUTSIDER}:role/x*"}},
        [f"external * {OUTSIDER} =Decrypt | only as arn:aws:iam::{OUTSIDER}:role/x*"],
    ),
    one(
        "principal-arn-any-account",
        f"{GLOBAL}: anyone can make a role of that name",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/deploy"}},
        ["public * - =Decrypt | only as", *OURS],
    ),
    one(
        "principal-arn-star-is-text",
        f"{OPERATORS}: StringEquals knows no wildcard",
        {"StringEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/*"}},
        NOBODY,
    ),
    one(
        "principal-arn-component",
        f"{OPERATORS}: ARNs are compared part by part",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*"}},
        NOBODY,
    ),
    one(
        "principal-arn-like-spans",
        f"{OPERATORS}: StringLike knows no parts, and the path of a role can hold an account and a colon",
        {"StringLike": {"aws:PrincipalArn": f"arn:*{OWNER}:role/*"}},
        ["public * - =Decrypt | only as", *OURS],
    ),
    one(
        "principal-arn-sts-form",
        f"{GLOBAL}: a session's value is its role",
        {"ArnLike": {"aws:PrincipalArn": f"arn:aws:sts::{OWNER}:assumed-role/*"}},
        NOBODY,
    ),
    one(
        "principal-tag",
        f"{GLOBAL}: anyone can set tags on their own roles",
        {"StringEquals": {"aws:PrincipalTag/team": "a"}},
        ["public * - =Decrypt | only principals with the tag team=a", *OURS],
    ),
    one("principal-type", GLOBAL, {"StringEquals": {"aws:PrincipalType": "User"}}, PUBLIC),
    one(
        "user-id",
        f"{GLOBAL}: a unique id tells no account",
        {"StringLike": {"aws:userid": "AROAEXAMPLEEXAMPLE123:*"}},
        [*OURS, "unknown * - =Decrypt"],
    ),
    one(
        "user-id-and-account",
        GLOBAL,
        {"StringLike": {"aws:userid": "AROAEXAMPLEEXAMPLE123:*"}, "StringEquals": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    one("user-id-session", f"{GLOBAL}: sessions are named at will", {"StringLike": {"aws:userid": "*:deploy"}}, PUBLIC),
    one("user-name", f"{GLOBAL}: users are named at will", {"StringEquals": {"aws:username": "bob"}}, PUBLIC),
    one("not-a-service", GLOBAL, {"Bool": {"aws:PrincipalIsAWSService": "false"}}, PUBLIC),
    one(
        "only-services",
        GLOBAL,
        {"Bool": {"aws:PrincipalIsAWSService": "true"}},
        ["aws_service * - =Decrypt"],
        lint_findings=frozenset({"service_without_source"}),
    ),
    one(
        "only-services-json-bool",
        f"{OPERATORS}: JSON booleans",
        {"Bool": {"aws:PrincipalIsAWSService": True}},
        ["aws_service * - =Decrypt"],
    ),
    one(
        "service-by-name",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalServiceName": "cloudtrail.amazonaws.com"}},
        ["aws_service * - =Decrypt | only by service"],
    ),
    # the path
    one(
        "via-service",
        f"{KMS}: kms:ViaService says how, not who",
        {"StringEquals": {"kms:ViaService": S3}},
        [
            f"public_via_service * - =Decrypt | only through {S3}",
            f"owner_direct * {OWNER} =Decrypt | only through {S3}",
        ],
    ),
    one(
        "via-services",
        KMS,
        {"StringLike": {"kms:ViaService": ["s3.*.amazonaws.com", "ec2.*.amazonaws.com"]}},
        ["public_via_service * - | only through s3.*.amazonaws.com or ec2.*.amazonaws.com", f"owner_direct * {OWNER}"],
    ),
    one(
        "via-service-and-owner",
        f"{KMS}: the shape of AWS managed keys",
        {"StringEquals": {"kms:ViaService": S3, "kms:CallerAccount": OWNER}},
        [f"owner_direct * {OWNER} =Decrypt | only through {S3}"],
    ),
    one(
        "via-service-and-organization",
        KMS,
        {"StringEquals": {"kms:ViaService": S3, "aws:PrincipalOrgID": ORGANIZATION_ID}},
        [f"organization * - | only through {S3}", f"owner_direct * {OWNER}"],
    ),
    one(
        "not-via-service",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"kms:ViaService": S3}},
        ["public * - | not through", f"owner_direct * {OWNER}"],
    ),
    one(
        "via-service-if-exists",
        f"{OPERATORS}: direct calls carry none",
        {"StringEqualsIfExists": {"kms:ViaService": S3}},
        PUBLIC,
    ),
    one(
        "via-any-service",
        GLOBAL,
        {"Bool": {"aws:ViaAWSService": "true"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    one(
        "via-any-service-not-null",
        f"{OPERATORS}: Null",
        {"Null": {"kms:ViaService": "false"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    one("direct-only", f"{OPERATORS}: Null", {"Null": {"kms:ViaService": "true"}}, PUBLIC),
    one(
        "called-via",
        GLOBAL,
        {"ForAnyValue:StringEquals": {"aws:CalledVia": "athena.amazonaws.com"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    # services for themselves
    one(
        "source-account",
        f"{GLOBAL}: carried by services only",
        {"StringEquals": {"aws:SourceAccount": OWNER}},
        [f"aws_service * - =Decrypt | only for account {OWNER}"],
        silent=frozenset({"service_without_source"}),
    ),
    one(
        "source-account-if-exists",
        f"{OPERATORS}: callers carry none",
        {"StringEqualsIfExists": {"aws:SourceAccount": OWNER}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    one(
        "source-arn",
        GLOBAL,
        {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{OWNER}:trail/*"}},
        ["aws_service * - =Decrypt | only for arn:aws:cloudtrail"],
    ),
    one(
        "source-arn-not",
        f"{OPERATORS}: negated, true when absent",
        {"ArnNotLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{OWNER}:trail/*"}},
        PUBLIC,
    ),
    one("source-org", GLOBAL, {"StringEquals": {"aws:SourceOrgID": ORGANIZATION_ID}}, ["aws_service * - =Decrypt"]),
    Case(
        "service-source-arn",
        f"{GLOBAL}: the confused deputy",
        [
            allow(
                service("cloudtrail.amazonaws.com"),
                "kms:GenerateDataKey*",
                {"StringEquals": {"aws:SourceArn": f"arn:aws:cloudtrail:eu-west-1:{OWNER}:trail/t"}},
            )
        ],
        [f"aws_service cloudtrail.amazonaws.com - #4 | only for arn:aws:cloudtrail:eu-west-1:{OWNER}:trail/t"],
        silent=frozenset({"service_without_source"}),
    ),
    Case(
        "service-source-account",
        GLOBAL,
        [allow(service("s3.amazonaws.com"), when={"StringEquals": {"aws:SourceAccount": OWNER}})],
        ["aws_service s3.amazonaws.com - =Decrypt"],
        silent=frozenset({"service_without_source"}),
    ),
    Case(
        "service-source-wildcard",
        f"{GLOBAL}: a wildcard account cures nothing",
        [allow(service("s3.amazonaws.com"), when={"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:*"}})],
        ["aws_service s3.amazonaws.com - =Decrypt"],
        lint_findings=frozenset({"service_without_source"}),
    ),
    Case(
        "service-source-bucket",
        f"{GLOBAL}: a bucket ARN has no account",
        [allow(service("s3.amazonaws.com"), when={"ArnLike": {"aws:SourceArn": "arn:aws:s3:::bucket"}})],
        ["aws_service s3.amazonaws.com - =Decrypt"],
        silent=frozenset({"service_without_source"}),
    ),
    Case(
        "service-source-if-exists",
        OPERATORS,
        [allow(service("s3.amazonaws.com"), when={"StringEqualsIfExists": {"aws:SourceAccount": OWNER}})],
        ["aws_service s3.amazonaws.com -"],
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
        silent=frozenset({"service_without_source"}),
    ),
    Case(
        "service-log-group",
        "CloudWatch Logs user guide: encryption context names the log group",
        [
            allow(
                service("logs.eu-west-1.amazonaws.com"),
                when={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:eu-west-1:{OWNER}:*"}},
            )
        ],
        ["aws_service logs.eu-west-1.amazonaws.com - =Decrypt | encryption context aws:logs:arn="],
        silent=frozenset({"service_without_source"}),
    ),
    Case(
        "service-with-principal-condition",
        f"{GLOBAL}: services have no organization",
        [allow(service("s3.amazonaws.com"), when={"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}})],
        [],
    ),
    Case(
        "service-caller-account",
        f"{KMS}: not documented for services",
        [allow(service("s3.amazonaws.com"), when={"StringEquals": {"kms:CallerAccount": OWNER}})],
        ["unknown s3.amazonaws.com - =Decrypt"],
    ),
    Case(
        "service-via-service",
        f"{KMS}: a service that calls for itself carries none",
        [allow(service("s3.amazonaws.com"), when={"StringEquals": {"kms:ViaService": S3}})],
        [],
    ),
    # the network
    one(
        "source-ip",
        f"{GLOBAL}: a network is not everyone, and no account either",
        {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
        [
            "organization * -",
            "external * - =Decrypt | only from 203.0.113.0/24",
            f"owner_direct * {OWNER} | only from 203.0.113.0/24",
        ],
    ),
    one("source-ip-everywhere", GLOBAL, {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, PUBLIC),
    one(
        "source-ip-halves",
        f"{GLOBAL}: ranges above /8 are everywhere",
        {"IpAddress": {"aws:SourceIp": ["0.0.0.0/1", "128.0.0.0/1"]}},
        PUBLIC,
    ),
    one("source-ip6-everywhere", GLOBAL, {"IpAddress": {"aws:SourceIp": "::/0"}}, PUBLIC),
    one(
        "source-ip6",
        GLOBAL,
        {"IpAddress": {"aws:SourceIp": "2001:db8:1234::/48"}},
        ["organization * -", "external * -", f"owner_direct * {OWNER}"],
    ),
    one(
        "source-ip-not",
        f"{OPERATORS}: negated",
        {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
        ["public * - | not from", f"owner_direct * {OWNER}"],
    ),
    one(
        "source-ip-unreadable",
        f"{OPERATORS}: no address",
        {"IpAddress": {"aws:SourceIp": "everywhere"}},
        ["unknown * - =Decrypt"],
    ),
    one(
        "vpc-endpoint",
        GLOBAL,
        {"StringEquals": {"aws:SourceVpce": "vpce-1a2b3c"}},
        ["organization * -", "external * - | only through VPC endpoint vpce-1a2b3c", f"owner_direct * {OWNER}"],
    ),
    one("vpc-endpoint-any", GLOBAL, {"StringLike": {"aws:SourceVpce": "vpce-*"}}, PUBLIC),
    one(
        "vpc",
        GLOBAL,
        {"StringEquals": {"aws:SourceVpc": "vpc-1a2b3c"}},
        ["organization * -", "external * - | only from VPC vpc-1a2b3c", f"owner_direct * {OWNER}"],
    ),
    one("vpc-if-exists", OPERATORS, {"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1a2b3c"}}, PUBLIC),
    # the data
    one(
        "encryption-context",
        f"{KMS}: whoever calls chooses it",
        {"StringEquals": {"kms:EncryptionContext:app": "x"}},
        ["public * - =Decrypt | encryption context app=x", f"owner_direct * {OWNER}"],
    ),
    Case(
        "encryption-context-not-for-metadata",
        f"{KMS}: carried by symmetric operations only",
        [
            allow(
                aws(APP),
                ["kms:Decrypt", "kms:DescribeKey", "kms:Sign"],
                {"StringEquals": {"kms:EncryptionContext:app": "x"}},
            )
        ],
        [f"owner_direct {APP} {OWNER} =Decrypt"],
    ),
    Case(
        "encryption-context-negated-metadata",
        f"{OPERATORS}: negated, true when absent",
        [allow(aws(APP), ["kms:Decrypt", "kms:DescribeKey"], {"StringNotEquals": {"kms:EncryptionContext:app": "x"}})],
        [
            f"owner_direct {APP} {OWNER} =Decrypt | encryption context app≠x",
            f"owner_direct {APP} {OWNER} =DescribeKey | nothing",
        ],
    ),
    Case(
        "encryption-context-asymmetric",
        f"{KMS}: asymmetric keys have none",
        [allow(aws(APP), "kms:Decrypt", {"StringEquals": {"kms:EncryptionContext:app": "x"}})],
        [],
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", key_spec="RSA_4096", key_usage="ENCRYPT_DECRYPT"),
    ),
    one(
        "encryption-context-keys",
        KMS,
        {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "app"}},
        ["public * - | only with the encryption context keys app", f"owner_direct * {OWNER}"],
    ),
    one(
        "encryption-context-keys-for-all",
        f"{SETS}: true when there is none",
        {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["app"]}},
        PUBLIC,
    ),
    one("encryption-context-required", f"{OPERATORS}: Null", {"Null": {"kms:EncryptionContext:app": "false"}}, PUBLIC),
    Case(
        "grants-for-aws",
        f"{KMS}: kms:GrantIsForAWSResource",
        [
            allow(
                aws(root(OUTSIDER)),
                ["kms:CreateGrant", "kms:ListGrants", "kms:Decrypt"],
                {"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        ],
        [f"external {root(OUTSIDER)} {OUTSIDER} =CreateGrant,ListGrants | only grants for resources of AWS services"],
        silent=frozenset({"grant_power_without_aws_resource"}),
    ),
    Case(
        "grants-for-aws-public",
        f"{KMS}: only services create such grants",
        [allow("*", "kms:CreateGrant", {"Bool": {"kms:GrantIsForAWSResource": True}})],
        ["public_via_service * - =CreateGrant", f"owner_direct * {OWNER} =CreateGrant"],
        silent=frozenset({"grant_power_without_aws_resource"}),
    ),
    Case(
        "grants-free",
        KMS,
        [allow(aws(APP), "kms:CreateGrant")],
        [f"owner_direct {APP} {OWNER} =CreateGrant"],
        lint_findings=frozenset({"grant_power_without_aws_resource"}),
    ),
    Case(
        "grants-if-exists",
        OPERATORS,
        [allow(aws(APP), "kms:CreateGrant", {"BoolIfExists": {"kms:GrantIsForAWSResource": "true"}})],
        [f"owner_direct {APP} {OWNER} =CreateGrant"],
        lint_findings=frozenset({"grant_power_without_aws_resource"}),
    ),
    Case(
        "grants-of-operations",
        f"{KMS}: kms:GrantOperations",
        [
            allow(
                aws(APP),
                ["kms:CreateGrant", "kms:Decrypt"],
                {"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt"]}},
            )
        ],
        [
            f"owner_direct {APP} {OWNER} =CreateGrant | only if every value of kms:GrantOperations is Encrypt",
            f"owner_direct {APP} {OWNER} =Decrypt | nothing",
        ],
    ),
    Case(
        "grants-to",
        KMS,
        [
            allow(
                aws(APP), ["kms:CreateGrant", "kms:Decrypt"], {"StringEquals": {"kms:GranteePrincipal": root(OUTSIDER)}}
            )
        ],
        [f"owner_direct {APP} {OWNER} =CreateGrant | only grants to {root(OUTSIDER)}"],
    ),
    one(
        "signing-algorithm-on-decrypt",
        f"{KMS}: carried by Sign and Verify only",
        {"StringEquals": {"kms:SigningAlgorithm": "RSASSA_PSS_SHA_256"}},
        NOBODY,
    ),
    one("attestation", KMS, {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "ab12"}}, PUBLIC),
    # the key
    one(
        "resource-account",
        f"{GLOBAL}: always the key's own, narrows nothing",
        {"StringEquals": {"aws:ResourceAccount": OWNER}},
        [f"{line} | nothing" for line in PUBLIC],
    ),
    one("resource-account-other", GLOBAL, {"StringEquals": {"aws:ResourceAccount": OUTSIDER}}, NOBODY),
    one(
        "resource-organization",
        GLOBAL,
        {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}},
        [f"{line} | nothing" for line in PUBLIC],
    ),
    one(
        "resource-tag-unknown",
        "tags that were not crawled",
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        UNJUDGED,
    ),
    one(
        "resource-tag-matches",
        f"{GLOBAL}: aws:ResourceTag",
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "yes"}),
    ),
    one(
        "resource-tag-name-case",
        f"{OPERATORS}: key names have no case",
        {"StringEquals": {"aws:ResourceTag/OPEN": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "yes"}),
    ),
    one(
        "resource-tag-differs",
        GLOBAL,
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "Yes"}),
    ),
    one(
        "resource-tag-ignore-case",
        OPERATORS,
        {"StringEqualsIgnoreCase": {"aws:ResourceTag/open": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "YES"}),
    ),
    one(
        "resource-tag-absent",
        GLOBAL,
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={}),
    ),
    one(
        "resource-tag-not",
        f"{OPERATORS}: negated, true when absent",
        {"StringNotEquals": {"aws:ResourceTag/closed": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={}),
    ),
    one(
        "resource-alias",
        f"{KMS}: kms:ResourceAliases",
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", aliases=("alias/a", "alias/shared-x")),
    ),
    one(
        "resource-alias-none",
        KMS,
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", aliases=()),
    ),
    one(
        "resource-alias-unknown",
        "aliases that were not crawled",
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        UNJUDGED,
    ),
    one(
        "request-alias",
        f"{KMS}: whoever calls chooses the name",
        {"StringEquals": {"kms:RequestAlias": "alias/a"}},
        PUBLIC,
    ),
    one(
        "key-spec",
        KMS,
        {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", key_spec="SYMMETRIC_DEFAULT"),
    ),
    one("key-spec-unknown", KMS, {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}, UNJUDGED),
    one(
        "key-origin",
        KMS,
        {"StringEquals": {"kms:KeyOrigin": "EXTERNAL"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", origin="AWS_KMS"),
    ),
    one("multi-region", f"{KMS}: told by the ARN", {"Bool": {"kms:MultiRegion": "true"}}, NOBODY),
    one("region", GLOBAL, {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, PUBLIC),
    one("region-other", GLOBAL, {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, NOBODY),
    one("secure-transport", GLOBAL, {"Bool": {"aws:SecureTransport": "false"}}, NOBODY),
    # time and numbers
    one(
        "date-any",
        f"{OPERATORS}: dates",
        {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
        ["public * - | only if aws:CurrentTime is less than", f"owner_direct * {OWNER}"],
    ),
    one(
        "date-over",
        OPERATORS,
        {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
        NOBODY,
        organization=Organization(ORGANIZATION_ID, now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    ),
    one(
        "date-epoch",
        OPERATORS,
        {"DateGreaterThan": {"aws:EpochTime": 1577836800}},
        ["public * -", f"owner_direct * {OWNER}"],
    ),
    one("date-nonsense", OPERATORS, {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}, UNJUDGED),
    one(
        "date-window",
        OPERATORS,
        {
            "DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-02-01T00:00:00Z"},
        },
        PUBLIC,
    ),
    one(
        "date-never",
        OPERATORS,
        {
            "DateGreaterThan": {"aws:CurrentTime": "2026-02-01T00:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"},
        },
        NOBODY,
    ),
    one("numeric", OPERATORS, {"NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}}, PUBLIC),
    one(
        "numeric-never",
        OPERATORS,
        {"NumericLessThan": {"aws:MultiFactorAuthAge": "1"}, "NumericGreaterThan": {"aws:MultiFactorAuthAge": "1"}},
        NOBODY,
    ),
    one("mfa", GLOBAL, {"Bool": {"aws:MultiFactorAuthPresent": "true"}}, PUBLIC),
    one("bool-nonsense", f"{OPERATORS}: Bool", {"Bool": {"aws:MultiFactorAuthPresent": "yes"}}, UNJUDGED),
    one("binary", f"{OPERATORS}: BinaryEquals", {"BinaryEquals": {"aws:PrincipalTag/b": "QmluYXJ5"}}, PUBLIC),
    # several at once
    one(
        "like-twice",
        f"{OPERATORS}: AND",
        {"StringLike": {"aws:PrincipalTag/t": "a*"}, "StringNotLike": {"aws:PrincipalTag/t": "*example"}},
        PUBLIC,
    ),
    one(
        "like-overlap",
        f"{OPERATORS}: two patterns on one key",
        {"StringLike": {"aws:PrincipalTag/t": "a*c"}, "ForAnyValue:StringLike": {"aws:PrincipalTag/t": "*bc"}},
        PUBLIC,
    ),
    one(
        "like-apart",
        f"{OPERATORS}: no value fits both",
        {"StringLike": {"aws:PrincipalTag/t": "a*"}, "ForAnyValue:StringLike": {"aws:PrincipalTag/t": "b*"}},
        NOBODY,
    ),
    one(
        "equals-and-not",
        f"{OPERATORS}: AND",
        {"StringEquals": {"kms:ViaService": S3}, "StringNotEquals": {"kms:ViaService": S3}},
        NOBODY,
    ),
    # what is not known
    one("unknown-key", "an unknown key is unknown, never private", {"StringEquals": {"foo:bar": "x"}}, UNJUDGED),
    one("unknown-kms-key", "a key that came after this version", {"StringEquals": {"kms:Future": "x"}}, UNJUDGED),
    one("unknown-key-if-exists", "nor public", {"StringEqualsIfExists": {"foo:bar": "x"}}, UNJUDGED),
    one(
        "unknown-operator", "an unknown operator is unknown", {"StringResembles": {"aws:PrincipalOrgID": "x"}}, UNJUDGED
    ),
    one(
        "unknown-and-false",
        "what fails for certain fails",
        {"StringEquals": {"foo:bar": "x", "aws:ResourceAccount": OUTSIDER}},
        NOBODY,
    ),
    one(
        "null-if-exists",
        f"{OPERATORS}: there is no NullIfExists",
        {"NullIfExists": {"kms:ViaService": "true"}},
        UNJUDGED,
    ),
    one("values-unreadable", "values that are no texts", {"StringEquals": {"kms:CallerAccount": {"a": 1}}}, UNJUDGED),
    one("values-empty", "no values", {"StringEquals": {"kms:CallerAccount": []}}, UNJUDGED),
    one("condition-empty", "no condition", {}, PUBLIC),
    one("condition-block-empty", "no keys", {"StringEquals": {}}, PUBLIC),
    # variables
    one(
        "variable-account",
        "IAM user guide: policy variables",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        OURS,
    ),
    one(
        "variable-old-version",
        "IAM user guide: variables need Version 2012-10-17",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        NOBODY,
        version="2008-10-17",
        lint_findings=frozenset({"variables_not_resolved"}),
    ),
    one(
        "variable-no-version",
        "IAM user guide: Version defaults to 2008-10-17",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        NOBODY,
        version=None,
        lint_findings=frozenset({"variables_not_resolved"}),
    ),
    one(
        "variable-organization",
        "IAM user guide: policy variables",
        {"StringEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}},
        MEMBERS,
    ),
    one(
        "variable-tag",
        "IAM user guide: policy variables",
        {"StringEquals": {"kms:EncryptionContext:team": "${aws:PrincipalTag/team}"}},
        PUBLIC,
    ),
    one(
        "variable-default",
        "IAM user guide: default values",
        {"StringEquals": {"kms:EncryptionContext:team": "${aws:PrincipalTag/team, 'none'}"}},
        PUBLIC,
    ),
    one(
        "variable-unknown",
        "IAM user guide: policy variables",
        {"StringEquals": {"kms:EncryptionContext:team": "${foo:bar}"}},
        UNJUDGED,
    ),
    one(
        "variable-star",
        "IAM user guide: an escaped star is a star",
        {"StringLike": {"kms:CallerAccount": "${*}"}},
        NOBODY,
    ),
    one("source-ip-wide", f"{GLOBAL}: wider than /8", {"IpAddress": {"aws:SourceIp": "12.0.0.0/7"}}, PUBLIC),
    Case(
        "encryption-context-keys-not-for-metadata",
        f"{KMS}: carried by symmetric operations and CreateGrant",
        [
            allow(
                aws(APP),
                ["kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant"],
                {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "app"}},
            )
        ],
        [f"owner_direct {APP} {OWNER} =CreateGrant,Decrypt"],
    ),
]
