"""Cases for conditions: which restrict access, which do not, and which cannot be evaluated."""

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
UNKNOWN = ["unknown * - =Decrypt"]
OF_SNS = [f"{access} sns.amazonaws.com -" for access in ("aws_service", "external")]


def case(name: str, rule: str, when: object, expect: list[str], **more: object) -> Case:
    """Return a case whose statement allows everyone to decrypt under conditions."""
    return Case(name, rule, [allow("*", "kms:Decrypt", when)], expect, **more)  # type: ignore[arg-type] # passed through


CASES = [
    # the caller
    case("caller-owner", f"{KMS}: kms:CallerAccount", {"StringEquals": {"kms:CallerAccount": OWNER}}, OURS),
    case(
        "caller-owner-key-case",
        f"{OPERATORS}: key names are case-insensitive",
        {"StringEquals": {"KMS:calleraccount": OWNER}},
        OURS,
    ),
    case("caller-owner-operator-case", f"{OPERATORS}: operators", {"stringequals": {"kms:CallerAccount": OWNER}}, OURS),
    case(
        "caller-outsider",
        f"{KMS}: another account",
        {"StringEquals": {"kms:CallerAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt | nothing"],
    ),
    case("caller-vendor", KMS, {"StringEquals": {"kms:CallerAccount": CHECKMARX}}, [f"vendor * {CHECKMARX} =Decrypt"]),
    case("caller-sister", KMS, {"StringEquals": {"kms:CallerAccount": SISTER}}, [f"organization * {SISTER} =Decrypt"]),
    case(
        "caller-several",
        f"{OPERATORS}: several values are joined by OR",
        {"StringEquals": {"kms:CallerAccount": [OWNER, OUTSIDER]}},
        [f"external * {OUTSIDER} =Decrypt", *OURS],
    ),
    case("caller-any", f"{KMS}: a wildcard restricts nothing", {"StringLike": {"kms:CallerAccount": "*"}}, PUBLIC),
    case(
        "caller-star-is-text",
        f"{OPERATORS}: StringEquals has no wildcards",
        {"StringEquals": {"kms:CallerAccount": "*"}},
        NOBODY,
    ),
    case(
        "caller-partial",
        f"{OPERATORS}: a tenth of all accounts counts as anyone",
        {"StringLike": {"kms:CallerAccount": "7*"}},
        ["public * - =Decrypt"],
    ),
    case(
        "caller-not-owner",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"kms:CallerAccount": OWNER}},
        ["public * - =Decrypt"],
    ),
    case("caller-not-outsider", f"{OPERATORS}: negated", {"StringNotEquals": {"kms:CallerAccount": OUTSIDER}}, PUBLIC),
    case(
        "caller-if-exists",
        f"{OPERATORS}: the key is always present",
        {"StringEqualsIfExists": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    case(
        "caller-for-all",
        f"{SETS}: the key is always present",
        {"ForAllValues:StringEquals": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    case(
        "caller-contradiction",
        f"{OPERATORS}: several keys are joined by AND",
        {"StringEquals": {"kms:CallerAccount": OWNER, "aws:PrincipalAccount": OUTSIDER}},
        NOBODY,
    ),
    case(
        "principal-account",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    case(
        "principal-account-number",
        f"{OPERATORS}: JSON numbers are strings",
        {"StringEquals": {"aws:PrincipalAccount": int(OUTSIDER)}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    case(
        "principal-account-numeric",
        OPERATORS,
        {"NumericEquals": {"aws:PrincipalAccount": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    case("organization-ours", GLOBAL, {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}}, MEMBERS),
    case(
        "organization-foreign",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalOrgID": FOREIGN}},
        [f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    case(
        "organization-both",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalOrgID": [ORGANIZATION_ID, FOREIGN]}},
        [*MEMBERS, f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    case(
        "organization-pattern",
        f"{GLOBAL}: a wildcard includes other organizations",
        {"StringLike": {"aws:PrincipalOrgID": "o-*"}},
        PUBLIC,
    ),
    case(
        "organization-if-exists",
        f"{OPERATORS}: a caller without an organization",
        {"StringEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    case(
        "organization-for-all",
        f"{SETS}: true when absent",
        {"ForAllValues:StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    case(
        "organization-not-ours",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        ["public * - =Decrypt"],
    ),
    case(
        "organization-value-case",
        f"{OPERATORS}: values are case-sensitive",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID.upper()}},
        NOBODY,
    ),
    case(
        "organization-not-known",
        "unknown without the organization's id",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}},
        ["unknown * - =Decrypt", f"unknown * {OWNER} =Decrypt"],
        organization=Organization(),
    ),
    case(
        "organization-and-account",
        f"{OPERATORS}: AND",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID, "kms:CallerAccount": SISTER}},
        [f"organization * {SISTER} =Decrypt"],
    ),
    case(
        "organization-and-outsider",
        f"{OPERATORS}: AND",
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID, "kms:CallerAccount": OUTSIDER}},
        NOBODY,
    ),
    case(
        "organization-path",
        f"{GLOBAL}: aws:PrincipalOrgPaths",
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{ORGANIZATION_ID}/r-ab12/ou-prod/*"}},
        ["organization * - =Decrypt | only from organization path", f"owner_direct * {OWNER} =Decrypt"],
    ),
    case(
        "organization-path-of-another-unit",
        GLOBAL,
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{ORGANIZATION_ID}/r-ab12/ou-x/*"}},
        ["organization * - =Decrypt"],
    ),
    case("organization-path-any", GLOBAL, {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-*/r-*"}}, PUBLIC),
    case(
        "organization-path-foreign",
        GLOBAL,
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{FOREIGN}/*"}},
        [f"external * - =Decrypt | only from organization {FOREIGN}"],
    ),
    case(
        "principal-arn",
        GLOBAL,
        {"ArnEquals": {"aws:PrincipalArn": APP}},
        [f"owner_direct * {OWNER} =Decrypt | only as {APP}"],
    ),
    case(
        "principal-arn-pattern",
        f"{OPERATORS}: ArnEquals is ArnLike",
        {"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/*"}},
        OURS,
    ),
    case(
        "principal-arn-outside",
        GLOBAL,
        {"StringLike": {"aws:PrincipalArn": f"arn:aws:iam::{OUTSIDER}:role/x*"}},
        [f"external * {OUTSIDER} =Decrypt | only as arn:aws:iam::{OUTSIDER}:role/x*"],
    ),
    case(
        "principal-arn-any-account",
        f"{GLOBAL}: anyone can create a role with that name",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/deploy"}},
        ["public * - =Decrypt | only as", *OURS],
    ),
    case(
        "principal-arn-star-is-text",
        f"{OPERATORS}: StringEquals has no wildcards",
        {"StringEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/*"}},
        NOBODY,
    ),
    case(
        "principal-arn-component",
        f"{OPERATORS}: ARNs are compared component by component",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*"}},
        NOBODY,
    ),
    case(
        "principal-arn-like-spans",
        f"{OPERATORS}: StringLike ignores components, and a role path can contain an account and a colon",
        {"StringLike": {"aws:PrincipalArn": f"arn:*{OWNER}:role/*"}},
        ["public * - =Decrypt | only as", *OURS],
    ),
    case(
        "principal-arn-sts-form",
        f"{GLOBAL}: the value of a session is its role",
        {"ArnLike": {"aws:PrincipalArn": f"arn:aws:sts::{OWNER}:assumed-role/*"}},
        NOBODY,
    ),
    case(
        "principal-tag",
        f"{GLOBAL}: anyone can tag their own roles",
        {"StringEquals": {"aws:PrincipalTag/team": "a"}},
        ["public * - =Decrypt | only principals with the tag team=a", *OURS],
    ),
    case("principal-type", GLOBAL, {"StringEquals": {"aws:PrincipalType": "User"}}, PUBLIC),
    case(
        "user-id",
        f"{GLOBAL}: a unique id does not show its account",
        {"StringLike": {"aws:userid": "AROAEXAMPLEEXAMPLE123:*"}},
        ["unknown * - =Decrypt"],
    ),
    case(
        "user-id-and-account",
        GLOBAL,
        {"StringLike": {"aws:userid": "AROAEXAMPLEEXAMPLE123:*"}, "StringEquals": {"kms:CallerAccount": OWNER}},
        OURS,
    ),
    case(
        "user-id-session",
        f"{GLOBAL}: anyone can choose session names",
        {"StringLike": {"aws:userid": "*:deploy"}},
        PUBLIC,
    ),
    case("user-name", f"{GLOBAL}: anyone can choose user names", {"StringEquals": {"aws:username": "bob"}}, PUBLIC),
    case("not-a-service", GLOBAL, {"Bool": {"aws:PrincipalIsAWSService": "false"}}, PUBLIC),
    case(
        "only-services",
        GLOBAL,
        {"Bool": {"aws:PrincipalIsAWSService": "true"}},
        ["aws_service * - =Decrypt"],
        lint_findings=frozenset({"service_without_source"}),
    ),
    case(
        "only-services-json-bool",
        f"{OPERATORS}: JSON booleans",
        {"Bool": {"aws:PrincipalIsAWSService": True}},
        ["aws_service * - =Decrypt"],
    ),
    case(
        "service-by-name",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalServiceName": "cloudtrail.amazonaws.com"}},
        ["aws_service * - =Decrypt | only by service"],
    ),
    # services on behalf of the caller
    case(
        "via-service",
        f"{KMS}: kms:ViaService restricts the path, not the caller",
        {"StringEquals": {"kms:ViaService": S3}},
        [
            f"public_via_service * - =Decrypt | only through {S3}",
            f"owner_direct * {OWNER} =Decrypt | only through {S3}",
        ],
    ),
    case(
        "via-services",
        KMS,
        {"StringLike": {"kms:ViaService": ["s3.*.amazonaws.com", "ec2.*.amazonaws.com"]}},
        ["public_via_service * - | only through s3.*.amazonaws.com or ec2.*.amazonaws.com", f"owner_direct * {OWNER}"],
    ),
    case(
        "via-service-and-owner",
        f"{KMS}: the policy of AWS managed keys",
        {"StringEquals": {"kms:ViaService": S3, "kms:CallerAccount": OWNER}},
        [f"owner_direct * {OWNER} =Decrypt | only through {S3}"],
    ),
    case(
        "via-service-and-organization",
        KMS,
        {"StringEquals": {"kms:ViaService": S3, "aws:PrincipalOrgID": ORGANIZATION_ID}},
        [f"organization * - | only through {S3}", f"owner_direct * {OWNER}"],
    ),
    case(
        "not-via-service",
        f"{OPERATORS}: negated",
        {"StringNotEquals": {"kms:ViaService": S3}},
        ["public * - | not through", f"owner_direct * {OWNER}"],
    ),
    case(
        "via-service-if-exists",
        f"{OPERATORS}: direct requests do not carry it",
        {"StringEqualsIfExists": {"kms:ViaService": S3}},
        PUBLIC,
    ),
    case(
        "via-any-service",
        GLOBAL,
        {"Bool": {"aws:ViaAWSService": "true"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    case(
        "via-any-service-not-null",
        f"{OPERATORS}: Null",
        {"Null": {"kms:ViaService": "false"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    case("direct-only", f"{OPERATORS}: Null", {"Null": {"kms:ViaService": "true"}}, PUBLIC),
    case(
        "called-via",
        GLOBAL,
        {"ForAnyValue:StringEquals": {"aws:CalledVia": "athena.amazonaws.com"}},
        ["public_via_service * -", f"owner_direct * {OWNER}"],
    ),
    # services on their own behalf
    case(
        "source-account",
        f"{GLOBAL}: only service requests carry it",
        {"StringEquals": {"aws:SourceAccount": OWNER}},
        [f"aws_service * - =Decrypt | only for account {OWNER}"],
        silent=frozenset({"service_without_source"}),
    ),
    case(
        "source-account-if-exists",
        f"{OPERATORS}: requests of other callers do not carry it",
        {"StringEqualsIfExists": {"aws:SourceAccount": OWNER}},
        PUBLIC,
        lint_findings=frozenset({"if_exists_scopes_nothing"}),
    ),
    case(
        "source-arn",
        GLOBAL,
        {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{OWNER}:trail/*"}},
        ["aws_service * - =Decrypt | only for arn:aws:cloudtrail"],
    ),
    case(
        "source-arn-not",
        f"{OPERATORS}: negated, true when absent",
        {"ArnNotLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{OWNER}:trail/*"}},
        PUBLIC,
    ),
    case("source-org", GLOBAL, {"StringEquals": {"aws:SourceOrgID": ORGANIZATION_ID}}, ["aws_service * - =Decrypt"]),
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
        f"{GLOBAL}: a wildcard account restricts nothing",
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
        f"{GLOBAL}: services belong to no organization",
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
        f"{KMS}: a service on its own behalf does not carry it",
        [allow(service("s3.amazonaws.com"), when={"StringEquals": {"kms:ViaService": S3}})],
        [],
    ),
    # the network
    case(
        "source-ip",
        f"{GLOBAL}: a network is neither everyone nor an account",
        {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
        [
            "organization * -",
            "external * - =Decrypt | only from 203.0.113.0/24",
            f"owner_direct * {OWNER} | only from 203.0.113.0/24",
        ],
    ),
    case("source-ip-everywhere", GLOBAL, {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, PUBLIC),
    case(
        "source-ip-halves",
        f"{GLOBAL}: ranges wider than /8 include anyone",
        {"IpAddress": {"aws:SourceIp": ["0.0.0.0/1", "128.0.0.0/1"]}},
        PUBLIC,
    ),
    case("source-ip6-everywhere", GLOBAL, {"IpAddress": {"aws:SourceIp": "::/0"}}, PUBLIC),
    case(
        "source-ip6",
        GLOBAL,
        {"IpAddress": {"aws:SourceIp": "2001:db8:1234::/48"}},
        ["organization * -", "external * -", f"owner_direct * {OWNER}"],
    ),
    case(
        "source-ip-not",
        f"{OPERATORS}: negated",
        {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
        ["public * - | not from", f"owner_direct * {OWNER}"],
    ),
    case(
        "source-ip-unreadable",
        f"{OPERATORS}: not an address",
        {"IpAddress": {"aws:SourceIp": "everywhere"}},
        ["unknown * - =Decrypt"],
    ),
    case(
        "vpc-endpoint",
        GLOBAL,
        {"StringEquals": {"aws:SourceVpce": "vpce-1a2b3c"}},
        ["organization * -", "external * - | only through VPC endpoint vpce-1a2b3c", f"owner_direct * {OWNER}"],
    ),
    case("vpc-endpoint-any", GLOBAL, {"StringLike": {"aws:SourceVpce": "vpce-*"}}, PUBLIC),
    case(
        "vpc",
        GLOBAL,
        {"StringEquals": {"aws:SourceVpc": "vpc-1a2b3c"}},
        ["organization * -", "external * - | only from VPC vpc-1a2b3c", f"owner_direct * {OWNER}"],
    ),
    case("vpc-if-exists", OPERATORS, {"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1a2b3c"}}, PUBLIC),
    # the request
    case(
        "encryption-context",
        f"{KMS}: the caller chooses it",
        {"StringEquals": {"kms:EncryptionContext:app": "x"}},
        ["public * - =Decrypt | encryption context app=x", f"owner_direct * {OWNER}"],
    ),
    Case(
        "encryption-context-not-for-metadata",
        f"{KMS}: only symmetric operations carry it",
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
        f"{KMS}: asymmetric keys have no encryption context",
        [allow(aws(APP), "kms:Decrypt", {"StringEquals": {"kms:EncryptionContext:app": "x"}})],
        [],
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", key_spec="RSA_4096", key_usage="ENCRYPT_DECRYPT"),
    ),
    case(
        "encryption-context-keys",
        KMS,
        {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "app"}},
        ["public * - | only with the encryption context keys app", f"owner_direct * {OWNER}"],
    ),
    case(
        "encryption-context-keys-for-all",
        f"{SETS}: true when absent",
        {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["app"]}},
        PUBLIC,
    ),
    case("encryption-context-required", f"{OPERATORS}: Null", {"Null": {"kms:EncryptionContext:app": "false"}}, PUBLIC),
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
    case(
        "signing-algorithm-on-decrypt",
        f"{KMS}: only Sign and Verify carry it",
        {"StringEquals": {"kms:SigningAlgorithm": "RSASSA_PSS_SHA_256"}},
        NOBODY,
    ),
    case("attestation", KMS, {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "ab12"}}, PUBLIC),
    # the key
    case(
        "resource-account",
        f"{GLOBAL}: always the key's own account, restricts nothing",
        {"StringEquals": {"aws:ResourceAccount": OWNER}},
        [f"{line} | nothing" for line in PUBLIC],
    ),
    case("resource-account-other", GLOBAL, {"StringEquals": {"aws:ResourceAccount": OUTSIDER}}, NOBODY),
    case(
        "resource-organization",
        GLOBAL,
        {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}},
        [f"{line} | nothing" for line in PUBLIC],
    ),
    case(
        "resource-tag-unknown",
        "tags that were not crawled",
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        UNKNOWN,
    ),
    case(
        "resource-tag-matches",
        f"{GLOBAL}: aws:ResourceTag",
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "yes"}),
    ),
    case(
        "resource-tag-name-case",
        f"{OPERATORS}: key names are case-insensitive",
        {"StringEquals": {"aws:ResourceTag/OPEN": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "yes"}),
    ),
    case(
        "resource-tag-differs",
        GLOBAL,
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "Yes"}),
    ),
    case(
        "resource-tag-ignore-case",
        OPERATORS,
        {"StringEqualsIgnoreCase": {"aws:ResourceTag/open": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={"open": "YES"}),
    ),
    case(
        "resource-tag-absent",
        GLOBAL,
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={}),
    ),
    case(
        "resource-tag-not",
        f"{OPERATORS}: negated, true when absent",
        {"StringNotEquals": {"aws:ResourceTag/closed": "yes"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", tags={}),
    ),
    case(
        "resource-alias",
        f"{KMS}: kms:ResourceAliases",
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", aliases=("alias/a", "alias/shared-x")),
    ),
    case(
        "resource-alias-none",
        KMS,
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", aliases=()),
    ),
    case(
        "resource-alias-unknown",
        "aliases that were not crawled",
        {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/shared-*"}},
        UNKNOWN,
    ),
    case(
        "request-alias",
        f"{KMS}: the caller chooses the alias",
        {"StringEquals": {"kms:RequestAlias": "alias/a"}},
        PUBLIC,
    ),
    case(
        "key-spec",
        KMS,
        {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}},
        PUBLIC,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", key_spec="SYMMETRIC_DEFAULT"),
    ),
    case("key-spec-unknown", KMS, {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}, UNKNOWN),
    case(
        "key-origin",
        KMS,
        {"StringEquals": {"kms:KeyOrigin": "EXTERNAL"}},
        NOBODY,
        facts=KeyFacts(KEY, OWNER, "CUSTOMER", origin="AWS_KMS"),
    ),
    case("multi-region", f"{KMS}: derived from the ARN", {"Bool": {"kms:MultiRegion": "true"}}, NOBODY),
    case("region", GLOBAL, {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, PUBLIC),
    case("region-other", GLOBAL, {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, NOBODY),
    case("secure-transport", GLOBAL, {"Bool": {"aws:SecureTransport": "false"}}, NOBODY),
    # time and numbers
    case(
        "date-any",
        f"{OPERATORS}: dates",
        {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
        ["public * - | only if aws:CurrentTime is less than", f"owner_direct * {OWNER}"],
    ),
    case(
        "date-over",
        OPERATORS,
        {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
        NOBODY,
        organization=Organization(ORGANIZATION_ID, now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    ),
    case(
        "date-epoch",
        OPERATORS,
        {"DateGreaterThan": {"aws:EpochTime": 1577836800}},
        ["public * -", f"owner_direct * {OWNER}"],
    ),
    case("date-nonsense", OPERATORS, {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}, UNKNOWN),
    case(
        "date-window",
        OPERATORS,
        {
            "DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-02-01T00:00:00Z"},
        },
        PUBLIC,
    ),
    case(
        "date-never",
        OPERATORS,
        {
            "DateGreaterThan": {"aws:CurrentTime": "2026-02-01T00:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"},
        },
        NOBODY,
    ),
    case("numeric", OPERATORS, {"NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}}, PUBLIC),
    case(
        "numeric-never",
        OPERATORS,
        {"NumericLessThan": {"aws:MultiFactorAuthAge": "1"}, "NumericGreaterThan": {"aws:MultiFactorAuthAge": "1"}},
        NOBODY,
    ),
    case("mfa", GLOBAL, {"Bool": {"aws:MultiFactorAuthPresent": "true"}}, PUBLIC),
    case("bool-nonsense", f"{OPERATORS}: Bool", {"Bool": {"aws:MultiFactorAuthPresent": "yes"}}, UNKNOWN),
    case("binary", f"{OPERATORS}: BinaryEquals", {"BinaryEquals": {"aws:PrincipalTag/b": "QmluYXJ5"}}, PUBLIC),
    # several conditions
    case(
        "like-twice",
        f"{OPERATORS}: AND",
        {"StringLike": {"aws:PrincipalTag/t": "a*"}, "StringNotLike": {"aws:PrincipalTag/t": "*example"}},
        PUBLIC,
    ),
    case(
        "like-overlap",
        f"{OPERATORS}: two patterns on one key",
        {"StringLike": {"aws:PrincipalTag/t": "a*c"}, "ForAnyValue:StringLike": {"aws:PrincipalTag/t": "*bc"}},
        PUBLIC,
    ),
    case(
        "like-apart",
        f"{OPERATORS}: no value satisfies both",
        {"StringLike": {"aws:PrincipalTag/t": "a*"}, "ForAnyValue:StringLike": {"aws:PrincipalTag/t": "b*"}},
        NOBODY,
    ),
    case(
        "equals-and-not",
        f"{OPERATORS}: AND",
        {"StringEquals": {"kms:ViaService": S3}, "StringNotEquals": {"kms:ViaService": S3}},
        NOBODY,
    ),
    # unknown keys and invalid values
    case("unknown-key", "an unknown key makes access unknown, not denied", {"StringEquals": {"foo:bar": "x"}}, UNKNOWN),
    case("unknown-kms-key", "a key newer than this version", {"StringEquals": {"kms:Future": "x"}}, UNKNOWN),
    case(
        "unknown-key-if-exists",
        "an unknown key makes access unknown, not public",
        {"StringEqualsIfExists": {"foo:bar": "x"}},
        UNKNOWN,
    ),
    case(
        "unknown-operator", "an unknown operator is unknown", {"StringResembles": {"aws:PrincipalOrgID": "x"}}, UNKNOWN
    ),
    case(
        "unknown-and-false",
        "a false element beside an unknown one",
        {"StringEquals": {"foo:bar": "x", "aws:ResourceAccount": OUTSIDER}},
        NOBODY,
    ),
    case(
        "null-if-exists",
        f"{OPERATORS}: NullIfExists does not exist",
        {"NullIfExists": {"kms:ViaService": "true"}},
        UNKNOWN,
    ),
    case(
        "values-unreadable", "values that are not strings", {"StringEquals": {"kms:CallerAccount": {"a": 1}}}, UNKNOWN
    ),
    case("values-empty", "no values", {"StringEquals": {"kms:CallerAccount": []}}, UNKNOWN),
    case("condition-empty", "no condition", {}, PUBLIC),
    case("condition-block-empty", "no keys", {"StringEquals": {}}, PUBLIC),
    # variables
    case(
        "variable-account",
        "IAM user guide: policy variables",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        OURS,
    ),
    case(
        "variable-old-version",
        "IAM user guide: variables need Version 2012-10-17",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        NOBODY,
        version="2008-10-17",
        lint_findings=frozenset({"variables_not_resolved"}),
    ),
    case(
        "variable-no-version",
        "IAM user guide: Version defaults to 2008-10-17",
        {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
        NOBODY,
        version=None,
        lint_findings=frozenset({"variables_not_resolved"}),
    ),
    case(
        "variable-organization",
        "IAM user guide: policy variables",
        {"StringEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}},
        MEMBERS,
    ),
    case(
        "variable-tag",
        "IAM user guide: policy variables",
        {"StringEquals": {"kms:EncryptionContext:team": "${aws:PrincipalTag/team}"}},
        PUBLIC,
    ),
    case(
        "variable-default",
        "IAM user guide: default values",
        {"StringEquals": {"kms:EncryptionContext:team": "${aws:PrincipalTag/team, 'none'}"}},
        PUBLIC,
    ),
    case(
        "variable-unknown",
        "IAM user guide: policy variables",
        {"StringEquals": {"kms:EncryptionContext:team": "${foo:bar}"}},
        UNKNOWN,
    ),
    case(
        "variable-star",
        "IAM user guide: an escaped star is a literal star",
        {"StringLike": {"kms:CallerAccount": "${*}"}},
        NOBODY,
    ),
    case("source-ip-wide", f"{GLOBAL}: wider than /8", {"IpAddress": {"aws:SourceIp": "12.0.0.0/7"}}, PUBLIC),
    Case(
        "encryption-context-keys-not-for-metadata",
        f"{KMS}: only symmetric operations and CreateGrant carry it",
        [
            allow(
                aws(APP),
                ["kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant"],
                {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "app"}},
            )
        ],
        [f"owner_direct {APP} {OWNER} =CreateGrant,Decrypt"],
    ),
    *(
        Case(
            f"values-outside-{name}",
            "IAM user guide: StringNotLike and Null; a value that matches no pattern satisfies both",
            [allow(principal, when={"Null": {key: "false"}, "StringNotLike": {key: patterns}})],
            expect,
        )
        for name, principal, key, patterns, expect in (
            ("tags", "*", "aws:PrincipalTag/team", ["o*", "x*"], PUBLIC),
            ("every-tag", "*", "aws:PrincipalTag/team", ["o*", "*"], []),
            ("services", "*", "kms:ViaService", ["o*"], ["public_via_service * -", f"owner_direct * {OWNER}"]),
            ("source-accounts", service("sns.amazonaws.com"), "aws:SourceAccount", "9*", OF_SNS),
            (
                "source-arns",
                service("sns.amazonaws.com"),
                "aws:SourceArn",
                "arn:aws:sns:us-east-1:9*",
                OF_SNS,
            ),
        )
    ),
]
