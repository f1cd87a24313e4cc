"""Cases for conditions on the caller: which identities exist, and which of them a policy leaves access."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from tests.reports.access.engine.cases import (
    APP,
    CHECKMARX,
    FACTS,
    ORGANIZATION,
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

GLOBAL = "IAM user guide: global condition context keys"
NOT_PRINCIPAL = "IAM user guide: NotPrincipal with Deny"
VALUES = "IAM user guide: policy variables, the table of principal key values"
BOB = f"arn:aws:iam::{OWNER}:user/Bob"
THEIRS = f"arn:aws:iam::{OUTSIDER}:user/Bob"
FEDERATED = f"arn:aws:sts::{OWNER}:federated-user/Ann"
SESSION = f"arn:aws:sts::{OWNER}:assumed-role/app/run-1"
EVERYONE = ["public * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"]
ROOT = allow(aws(root()), "kms:*", Sid="Root")
ROOT_ALL = f"owner_delegated {root()} {OWNER}"


def condition(name: str, rule: str, when: dict[str, Any], expect: list[str]) -> Case:
    """Everyone, under one condition."""
    return Case(f"caller-{name}", rule, [allow("*", when=when)], expect)


def exception(name: str, rule: str, when: dict[str, Any], expect: list[str]) -> Case:
    """Everyone, except under one condition."""
    return Case(f"caller-denied-{name}", rule, [allow("*"), deny(when=when)], expect)


CASES = [
    # Deny with NotPrincipal exempts the principals that it lists
    Case(
        "not-principal-leaves-user-and-root",
        NOT_PRINCIPAL,
        [allow("*"), deny(None, NotPrincipal=aws(BOB, root()))],
        [f"owner_direct * {OWNER} =Decrypt | only the root user and {BOB}"],
    ),
    Case(
        "not-principal-leaves-foreign-user-and-root",
        NOT_PRINCIPAL,
        [allow("*"), deny(None, NotPrincipal=aws(THEIRS, root(OUTSIDER)))],
        [f"external * {OUTSIDER} =Decrypt | only the root user and {THEIRS}"],
    ),
    Case(
        "not-principal-under-an-account",
        NOT_PRINCIPAL,
        [allow(aws(root(OUTSIDER))), deny(None, NotPrincipal=aws(THEIRS, root(OUTSIDER)))],
        [f"external {root(OUTSIDER)} {OUTSIDER} =Decrypt | only the root user and {THEIRS}"],
    ),
    Case(
        "not-principal-under-the-owner",
        NOT_PRINCIPAL,
        [ROOT, deny(None, NotPrincipal=aws(BOB, root()))],
        [f"{ROOT_ALL} #46 | only the root user and {BOB}"],
    ),
    Case(
        "not-principal-and-a-condition-on-the-root",
        NOT_PRINCIPAL,
        [
            ROOT,
            deny(None, NotPrincipal=aws(BOB, root())),
            deny(when={"ArnEquals": {"aws:PrincipalArn": root()}}),
        ],
        [f"{ROOT_ALL} #46 | except principals with a permissions boundary (denied by #1)"],
    ),
    Case(
        "not-principal-leaves-federated-user",
        NOT_PRINCIPAL,
        [allow("*"), deny(None, NotPrincipal=aws(FEDERATED, root()))],
        [f"owner_direct * {OWNER} =Decrypt | only the root user and {FEDERATED}"],
    ),
    Case(
        "not-principal-leaves-session",
        NOT_PRINCIPAL,
        [allow("*"), deny(None, NotPrincipal=aws(APP, SESSION, root()))],
        [f"owner_direct * {OWNER} =Decrypt | only the root user and {SESSION}"],
    ),
    Case(
        "not-principal-under-a-condition-that-always-holds",
        NOT_PRINCIPAL,
        [
            allow(aws(root(SISTER))),
            deny(None, when={"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}}, NotPrincipal=aws(root(SISTER))),
        ],
        [f"organization {root(SISTER)} {SISTER} =Decrypt | only the root user"],
    ),
    # the account
    condition("account-not-like", GLOBAL, {"StringNotLike": {"kms:CallerAccount": "9*"}}, EVERYONE),
    condition("account-not-like-list", GLOBAL, {"StringNotLike": {"aws:PrincipalAccount": ["9*", "8*"]}}, EVERYONE),
    condition(
        "account-not-like-any-digit",
        GLOBAL,
        {"StringNotLike": {"kms:CallerAccount": [f"{digit}*" for digit in range(10)]}},
        ["aws_service * - =Decrypt"],
    ),
    condition(
        "account-length",
        f"{GLOBAL}: an account has twelve digits",
        {"StringNotLike": {"kms:CallerAccount": ["????????????", "1*"]}},
        ["aws_service * - =Decrypt"],
    ),
    condition(
        "account-one-digit-left",
        GLOBAL,
        {"StringNotLike": {"kms:CallerAccount": [f"*{digit}*" for digit in range(9)]}},
        ["public * - =Decrypt"],
    ),
    exception("account-like", GLOBAL, {"StringLike": {"aws:PrincipalAccount": "9*"}}, EVERYONE),
    Case(
        "caller-account-joint",
        f"{GLOBAL}: both keys are the same account",
        [
            allow(
                "*", when={"StringLike": {"kms:CallerAccount": "98*"}, "StringNotLike": {"aws:PrincipalArn": "*::98*"}}
            )
        ],
        [],
    ),
    # the ARN
    condition("arn-not-like-account", GLOBAL, {"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::9*:*"}}, EVERYONE),
    condition("arn-not-role", GLOBAL, {"StringNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, EVERYONE),
    exception("arn-role", GLOBAL, {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, EVERYONE),
    condition(
        "arn-not-role-or-user",
        f"{GLOBAL}: root users",
        {"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:role/*", "arn:aws:iam::*:user/*"]}},
        EVERYONE,
    ),
    condition(
        "arn-only-root-users",
        f"{GLOBAL}: root users",
        {
            "ArnNotLike": {
                "aws:PrincipalArn": [
                    "arn:aws:iam::*:role/*",
                    "arn:aws:iam::*:user/*",
                    "arn:aws:sts::*:federated-user/*",
                ]
            }
        },
        ["public * - =Decrypt | only the root user", f"owner_direct * {OWNER} =Decrypt | only the root user"],
    ),
    Case(
        "caller-account-without-roles",
        f"{GLOBAL}: the users of the account",
        [allow(aws(root(OUTSIDER))), deny(when={"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{OUTSIDER}:role/*"}})],
        [f"external {root(OUTSIDER)} {OUTSIDER} =Decrypt | except if aws:PrincipalArn is"],
    ),
    condition(
        "arn-federated-user",
        f"{GLOBAL}: the ARN of a federated user",
        {"StringEquals": {"aws:PrincipalArn": f"arn:aws:sts::{OUTSIDER}:federated-user/Ann"}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    condition(
        "arn-path",
        f"{GLOBAL}: a path is a part of the ARN",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*/*"}},
        EVERYONE,
    ),
    condition("arn-empty-name", GLOBAL, {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/"}}, []),
    # type, user name and user ID belong to one identity
    exception("user-id-roles-and-users", VALUES, {"StringLike": {"aws:userid": ["AROA*", "AIDA*"]}}, EVERYONE),
    condition(
        "user-id-of-a-root-user",
        f"{VALUES}: the user ID of a root user is its account",
        {"StringEquals": {"aws:userid": OUTSIDER}},
        [f"external * {OUTSIDER} =Decrypt | only the root user"],
    ),
    condition(
        "user-id-of-a-federated-user",
        f"{VALUES}: account and name",
        {"StringEquals": {"aws:userid": f"{OUTSIDER}:Ann"}},
        [f"external * {OUTSIDER} =Decrypt"],
    ),
    condition(
        "type-anonymous", f"{VALUES}: KMS requests are signed", {"StringEquals": {"aws:PrincipalType": "Anonymous"}}, []
    ),
    condition("type-account", VALUES, {"StringEquals": {"aws:PrincipalType": "Account"}}, EVERYONE),
    condition("type-federated-user", VALUES, {"StringEquals": {"aws:PrincipalType": "FederatedUser"}}, EVERYONE),
    condition(
        "type-and-user-name",
        f"{VALUES}: sessions have no user name",
        {"StringEquals": {"aws:PrincipalType": "AssumedRole", "aws:username": "bob"}},
        [],
    ),
    condition(
        "user-arn-and-role-id",
        f"{VALUES}: the user ID of a user starts with AIDA",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"}, "StringLike": {"aws:userid": "AROA*"}},
        [],
    ),
    condition(
        "user-arn-and-other-name",
        f"{VALUES}: the user name is the end of the ARN",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/a*"}, "StringEquals": {"aws:username": "b"}},
        EVERYONE,
    ),
    condition(
        "user-arn-without-path-and-other-name",
        f"{VALUES}: the user name is the end of the ARN",
        {
            "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/a*"},
            "ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*/*"},
            "StringEquals": {"aws:username": "b"},
        },
        [],
    ),
    condition(
        "user-arn-and-user-name",
        VALUES,
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/b*"}, "StringEquals": {"aws:username": "bob"}},
        EVERYONE,
    ),
    condition(
        "user-id-and-user-name",
        f"{VALUES}: sessions have no user name",
        {"StringLike": {"aws:userid": "*:*"}, "Null": {"aws:username": "false"}},
        [],
    ),
    # policy variables
    condition(
        "tag-of-the-resource",
        f"{GLOBAL}: anyone can tag their own role with the key's tag",
        {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}},
        ["unknown * - =Decrypt"],
    ),
    condition(
        "name-in-arn",
        f"{VALUES}: a user's name is a part of its ARN",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/${aws:username}"}},
        EVERYONE,
    ),
    condition(
        "tag-in-arn",
        f"{GLOBAL}: anyone can choose tags and names",
        {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/${aws:PrincipalTag/team}-app"}},
        EVERYONE,
    ),
    # the organization
    condition(
        "organization-not-like",
        GLOBAL,
        {"StringLike": {"aws:PrincipalOrgID": "o-*"}, "StringNotLike": {"aws:PrincipalOrgID": "o-s*"}},
        EVERYONE,
    ),
    condition(
        "organization-and-account",
        GLOBAL,
        {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION_ID}, "StringNotLike": {"kms:CallerAccount": "9*"}},
        ["organization * - =Decrypt", f"owner_direct * {OWNER} =Decrypt"],
    ),
    # the network, the time, the alias, and keys that no KMS request carries
    condition(
        "private-addresses",
        f"{GLOBAL}: aws:SourceIp is a public address",
        {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "172.20.0.0/16", "192.168.1.1", "fd00::/8"]}},
        [],
    ),
    exception(
        "private-addresses",
        f"{GLOBAL}: aws:SourceIp is a public address",
        {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        [],
    ),
    Case(
        "request-alias-that-the-key-does-not-have",
        "KMS developer guide: kms:RequestAlias is the alias that identifies the key in the request",
        [allow("*", when={"StringEquals": {"kms:RequestAlias": "alias/other"}})],
        [],
        facts=replace(FACTS, aliases=("alias/own",)),
    ),
    Case(
        "request-alias-that-the-key-has",
        "KMS developer guide: kms:RequestAlias is the alias that identifies the key in the request",
        [allow("*", when={"StringLike": {"kms:RequestAlias": "alias/o*"}})],
        EVERYONE,
        facts=replace(FACTS, aliases=("alias/own",)),
    ),
    *(
        Case(
            f"time-{name}",
            f"{GLOBAL}: aws:CurrentTime",
            [allow("*", when={operator: {"aws:CurrentTime": "2026-01-01T00:00:00Z"}})],
            EVERYONE if usable else [],
            organization=replace(ORGANIZATION, now=dt.datetime(year, 6, 1, tzinfo=dt.UTC)),
        )
        for name, operator, year, usable in (
            ("past", "DateLessThan", 2026, False),
            ("not-yet", "DateGreaterThan", 2025, False),
            ("present", "DateLessThan", 2025, True),
        )
    ),
    *(
        condition(name, f"{GLOBAL}; {service_} does not call KMS with this key", when, expect)
        for name, service_, when, expect in (
            ("key-of-s3", "S3", {"StringEquals": {"s3:prefix": "x"}}, []),
            ("key-of-s3-negated", "S3", {"StringNotEquals": {"s3:prefix": "x"}}, EVERYONE),
            ("key-of-s3-if-exists", "S3", {"StringEqualsIfExists": {"s3:prefix": "x"}}, EVERYONE),
            ("key-of-s3-for-all-values", "S3", {"ForAllValues:StringEquals": {"s3:prefix": "x"}}, EVERYONE),
            ("assumed-root", "AssumeRoot", {"Bool": {"aws:AssumedRoot": "true"}}, []),
            ("assumed-root-absent", "AssumeRoot", {"Null": {"aws:AssumedRoot": "true"}}, EVERYONE),
        )
    ),
    *(
        Case(
            f"denied-to-everyone-{kind.lower()}",
            "IAM user guide: an explicit Deny wins",
            [allow({kind: name}, ["kms:Decrypt", "kms:Encrypt"]), deny("*", "kms:Encrypt")],
            [f"unknown {name} - =Decrypt"],
        )
        for kind, name in (("Federated", "cognito-identity.amazonaws.com"), ("AWS", "somebody"))
    ),
    condition(
        "literal-star",
        "IAM user guide: policy variables, ${*} is a star",
        {"StringEquals": {"aws:PrincipalTag/team": "${*}"}},
        ["public * - =Decrypt | only principals with the tag team=${*}", f"owner_direct * {OWNER} =Decrypt"],
    ),
    # AWS services that call for resources of another account
    *(
        Case(
            f"service-for-{name}",
            "IAM user guide: the confused deputy problem",
            [allow(service("logs.amazonaws.com"), when=when)],
            ["aws_service logs.amazonaws.com - =Decrypt", *expect],
            lint_findings=frozenset({"service_without_source"} if open_ended else ()),
            silent=frozenset(() if open_ended else {"service_without_source"}),
        )
        for name, when, expect, open_ended in (
            (
                "foreign-account",
                {"StringEquals": {"aws:SourceAccount": OUTSIDER}},
                [f"external logs.amazonaws.com {OUTSIDER} =Decrypt | only for account {OUTSIDER}"],
                False,
            ),
            (
                "foreign-arn",
                {"ArnLike": {"aws:SourceArn": f"arn:aws:logs:*:{OUTSIDER}:*"}},
                [f"external logs.amazonaws.com {OUTSIDER} =Decrypt"],
                False,
            ),
            (
                "vendor",
                {"StringEquals": {"aws:SourceAccount": [OWNER, CHECKMARX]}},
                [f"vendor logs.amazonaws.com {CHECKMARX} =Decrypt"],
                False,
            ),
            (
                "other-account-of-the-organization",
                {"StringEquals": {"aws:SourceAccount": SISTER}},
                [f"organization logs.amazonaws.com {SISTER} =Decrypt"],
                False,
            ),
            ("own-account", {"StringEquals": {"aws:SourceAccount": OWNER}}, [], False),
            (
                "account-pattern",
                {"StringLike": {"aws:SourceAccount": "1234*"}},
                ["external logs.amazonaws.com - =Decrypt"],
                True,
            ),
            (
                "account-pattern-at-the-end",
                {"StringLike": {"aws:SourceAccount": "0123456789??"}},
                ["external logs.amazonaws.com - =Decrypt"],
                True,
            ),
            (
                "arn-with-account-pattern",
                {"ArnLike": {"aws:SourceArn": "arn:aws:logs:*:1234*:log-group:*"}},
                ["external logs.amazonaws.com - =Decrypt"],
                True,
            ),
            (
                "contradicting-account-and-arn",
                {
                    "StringEquals": {"aws:SourceAccount": OWNER},
                    "ArnLike": {"aws:SourceArn": f"arn:aws:logs:*:{OUTSIDER}:*"},
                },
                [],
                False,
            ),
            (
                "foreign-organization",
                {"StringEquals": {"aws:SourceOrgID": "o-foreign111"}},
                ["external logs.amazonaws.com - =Decrypt | only for organization o-foreign111"],
                False,
            ),
            ("any-account", {"StringLike": {"aws:SourceAccount": "*"}}, [], True),
            ("all-but-one", {"StringNotEquals": {"aws:SourceAccount": OUTSIDER}}, [], True),
        )
    ),
    Case(
        "any-service-for-foreign-account",
        "IAM user guide: the confused deputy problem",
        [allow("*", when={"StringEquals": {"aws:SourceAccount": OUTSIDER}})],
        [
            "aws_service * - =Decrypt",
            f"external * {OUTSIDER} =Decrypt | through an AWS service; only for account {OUTSIDER}",
        ],
    ),
    Case(
        "caller-services-denied",
        "IAM user guide: an explicit Deny wins",
        [
            allow("*", when={"StringLike": {"aws:PrincipalServiceName": "s*.amazonaws.com"}}),
            deny(service("s3.amazonaws.com")),
        ],
        ["aws_service * - =Decrypt | except s3.amazonaws.com (denied by #1)"],
    ),
    Case(
        "caller-only-service-denied",
        "IAM user guide: an explicit Deny wins",
        [
            allow("*", when={"StringEquals": {"aws:PrincipalServiceName": "s3.amazonaws.com"}}),
            deny(service("s3.amazonaws.com")),
        ],
        [],
    ),
    Case(
        "caller-session-denied",
        "IAM user guide: an explicit Deny wins",
        [allow(aws(APP)), deny(aws(SESSION), Sid="Session")],
        [f"owner_direct {APP} {OWNER} =Decrypt | except {SESSION} (denied by Session)"],
    ),
    Case(
        "caller-denied-conditionally",
        "IAM user guide: an explicit Deny wins",
        [ROOT, deny(aws(APP), when={"Bool": {"aws:MultiFactorAuthPresent": "false"}}, Sid="Mfa")],
        [f"{ROOT_ALL} #46 | except {APP} if aws:MultiFactorAuthPresent is false (denied by Mfa)"],
    ),
    Case(
        "caller-allowed-and-denied-by-name",
        "IAM user guide: an explicit Deny wins",
        [allow("*", when={"ArnEquals": {"aws:PrincipalArn": [APP, BOB]}}), deny(aws(APP))],
        [f"owner_direct * {OWNER} =Decrypt"],
    ),
    Case(
        "caller-allowed-name-denied",
        "IAM user guide: an explicit Deny wins",
        [allow("*", when={"ArnEquals": {"aws:PrincipalArn": APP}}), deny(aws(APP))],
        [],
    ),
    Case(
        "caller-not-principal-allowed-name",
        "IAM user guide: NotPrincipal with Allow",
        [allow(None, when={"ArnEquals": {"aws:PrincipalArn": APP}}, NotPrincipal=aws(APP))],
        [],
    ),
    Case(
        "caller-sister-without-users",
        GLOBAL,
        [
            allow(aws(root(SISTER))),
            deny(when={"StringEquals": {"aws:PrincipalType": ["User", "AssumedRole", "FederatedUser"]}}),
        ],
        [f"organization {root(SISTER)} {SISTER} =Decrypt | only the root user"],
    ),
    Case(
        "session-of-a-role-with-a-path",
        "IAM user guide: aws:PrincipalArn of a session is the ARN of its role, with the path that the session's ARN lacks",
        [
            allow(
                aws(SESSION), "kms:Decrypt", {"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/team/app"}}
            )
        ],
        [f"owner_direct {SESSION} {OWNER} =Decrypt | only as arn:aws:iam::{OWNER}:role/team/app"],
    ),
    Case(
        "session-of-a-role-with-another-name",
        "IAM user guide: aws:PrincipalArn of a session is the ARN of its role",
        [
            allow(
                aws(SESSION),
                "kms:Decrypt",
                {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/team/application"}},
            )
        ],
        [],
    ),
    Case(
        "session-of-a-role-whose-path-a-deny-exempts",
        "IAM user guide: aws:PrincipalArn of a session is the ARN of its role, with the path that the session's ARN lacks",
        [
            allow(aws(SESSION)),
            deny("*", "kms:*", {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:role/team/*"}}, Sid="Team"),
        ],
        [f"owner_direct {SESSION} {OWNER} =Decrypt"],
    ),
]
