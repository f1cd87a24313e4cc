"""The differences between two policies, statement by statement."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from reports.answers.policy_diff import policy_details, statement_details

ROOT = {"Sid": "Root", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}
APP = {
    "Sid": "App",
    "Effect": "Allow",
    "Principal": {"AWS": ["role/a", "role/b"]},
    "Action": ["kms:Decrypt", "kms:Encrypt"],
    "Resource": "*",
    "Condition": {"StringEquals": {"kms:ViaService": ["s3.amazonaws.com", "rds.amazonaws.com"]}},
}
NAMELESS = {"Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion", "Resource": "*"}


def text(*statements: Any, **others: Any) -> str:
    return orjson.dumps({"Version": "2012-10-17", "Statement": list(statements), **others}).decode()


def diff_lines(before: str, after: str) -> list[str]:
    return [line for detail in policy_details(before, after) for line in detail.text_lines("")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (text(ROOT), text(ROOT | {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": ["KMS:*"]}), []),
        (
            text(ROOT),
            text(ROOT, APP),
            [
                (
                    "+ statement App: Allow role/a, role/b: "
                    "kms:Decrypt, kms:Encrypt if StringEquals kms:ViaService in (rds.amazonaws.com, s3.amazonaws.com)"
                )
            ],
        ),
        (text(ROOT, NAMELESS), text(ROOT), ["- statement #1: Deny everyone: kms:ScheduleKeyDeletion"]),
        (
            text(APP),
            text(
                APP
                | {
                    "Action": ["kms:decrypt", "kms:GenerateDataKey"],
                    "Principal": {"AWS": "role/b", "Service": "rds.amazonaws.com"},
                }
            ),
            [
                "~ statement App:",
                "  - principal: role/a",
                "  + principal: Service rds.amazonaws.com",
                "  - action: kms:Encrypt",
                "  + action: kms:GenerateDataKey",
            ],
        ),
        (
            text(APP),
            text(
                APP
                | {
                    "Effect": "Deny",
                    "Condition": {
                        "StringEquals": {"kms:ViaService": "s3.amazonaws.com"},
                        "Bool": {"aws:SecureTransport": False},
                    },
                }
            ),
            [
                "~ statement App:",
                "  effect: Allow → Deny",
                "  + condition Bool aws:SecureTransport: false",
                "  condition StringEquals kms:ViaService: rds.amazonaws.com, s3.amazonaws.com → s3.amazonaws.com",
            ],
        ),
        (
            text(NAMELESS),
            text(NAMELESS | {"Action": "kms:DisableKey"}),
            ["~ statement #0:", "  - action: kms:ScheduleKeyDeletion", "  + action: kms:DisableKey"],
        ),
        (text(APP), text(APP | {"Sid": "Application"}), ["~ statement Application:", "  Sid: App → Application"]),
        (text(ROOT, NAMELESS), text(NAMELESS, ROOT), ["order of the statements: Root, #1 → #0, Root"]),
        (text(ROOT), text(ROOT, Id="x", Version="2008-10-17"), ["Id: - → x", "Version: 2012-10-17 → 2008-10-17"]),
        (
            text({**NAMELESS, "NotAction": "kms:Get*"}),
            text({**NAMELESS, "NotAction": "kms:List*"}),
            [
                "~ statement #0:",
                (
                    '  text: {"Action":["kms:schedulekeydeletion"],"Effect":"Deny","NotAction":["kms:get*"],"Principal":'
                    '{"AWS":["*"]},"Resource":["*"]} → {"Action":["kms:schedulekeydeletion"],"Effect":"Deny","NotAction":'
                    '["kms:list*"],"Principal":{"AWS":["*"]},"Resource":["*"]}'
                ),
            ],
        ),
        ("{}", "no JSON", ["policy text: {} → no JSON"]),
        ('"a"', "[]", ['policy text: "a" → []']),
    ],
)
def test_what_changed_in_a_policy(before: str, after: str, expected: list[str]) -> None:
    """Statements are matched by Sid, or else by content; an equivalent spelling is not a change."""
    assert diff_lines(before, after) == expected


def test_statements_of_one_sid_are_matched_by_content() -> None:
    """A Sid that occurs twice matches nothing: equal statements stay, the others are added or removed."""
    other = {**ROOT, "Sid": "App", "Action": "kms:ListGrants", "Effect": "Deny"}
    assert [
        line.partition(":")[0]
        for line in diff_lines(
            text(APP, other), text(APP, APP | {"Effect": "Deny", "Action": "kms:CreateGrant", "Principal": "*"})
        )
    ] == [
        "- statement App",
        "+ statement App",
    ]


def test_details_of_a_policy() -> None:
    """Inverted elements are spelled out; statements that cannot be parsed are shown unchanged."""
    inverted = {
        "Effect": "Allow",
        "NotPrincipal": {"AWS": "111122223333"},
        "NotAction": "kms:Get*",
        "Resource": ["arn:x"],
    }
    lines = [
        line
        for detail in statement_details(text(NAMELESS, inverted, {"Effect": "Maybe"}, "what"))
        for line in detail.text_lines("")
    ]
    assert lines[:2] == [
        "statement #0: Deny everyone: kms:ScheduleKeyDeletion",
        "statement #1: Allow everyone except 111122223333: everything except kms:Get* on arn:x",
    ]
    assert lines[2] == 'statement #2: {"Effect": "Maybe"}'
    assert lines[3] == "statement #3: what"
    assert [detail.name for detail in statement_details("no JSON")] == ["policy text"]
