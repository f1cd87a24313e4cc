"""The situations in words, in the report and in the mail: order, cap, plurals, commands, hostile names."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reports.html.query_runner import LimitedRows, Source
from reports.html.registry import find, write
from reports.html.situations import FIRST, SHOWN, Situations, situations
from reports.html.summary import summary
from reports.notify.message import compose
from tests.made_once import made_once
from tests.reports.conftest import make_situations
from tests.reports.html.page import Node, read
from tests.reports.situation_organization import DELETION, HOSTILE, SECOND_RUN, situation_settings

ARN = "arn:aws:kms:eu-west-1:111122223333:key/k1"
DATE = dt.datetime(2026, 12, 24)  # noqa: DTZ001 - as the mart has it: UTC without a time zone
ROW: dict[str, Any] = {
    "situation_id": "1", "kind": "key", "cause": ARN, "severity": "critical", "deadline": None, "affected": 0, "names": [],
    "key_arn": ARN, "key_alias": "alias/orders", "key_state": "Disabled", "grants": 0, "parties": [], "rule_id": "r",
    "account_ids": ["111122223333"], "account_name": "Shop", "region": "eu-west-1", "owners": [], "failed": 1, "unknown": 0,
    "evidence": [{"rule_id": "r", "title": "Rule", "severity": "critical", "failed": 1, "unknown": 0}],
    "main": {"arn": ARN, "name": "alias/orders", "reason": "The reason."}, "noun": "key", "fix": "Fix it.", "services": [],
    "databases": [], "changes": [], "profiles": [],
    "deletion_date": None, "freshness": "current", "custom_key_store_id": None, "last_used_at": None,
    "days_left": None, "days_to_deletion": None, "anchor": "abc",
}  # fmt: skip
DELETED = {
    "key_state": "PendingDeletion",
    "deletion_date": DATE,
    "deadline": DATE,
    "days_left": 3,
    "days_to_deletion": 3,
}
GROUP = {"key_arn": None, "key_alias": None, "key_state": None, "names": ["a"], "affected": 1}


def evidence(*rules: str, failed: int = 1, unknown: int = 0) -> list[dict[str, Any]]:
    return [
        {"rule_id": rule, "title": "Rule", "severity": "high", "failed": failed, "unknown": unknown} for rule in rules
    ]


EXCESS = evidence("vendor-over-shared", "vendor-profile")
BLOCKED = [*evidence("vendor-key-usable", failed=2), *evidence("vendor-profile")]


def words(**changes: Any) -> Situations:
    return situations(LimitedRows(1, 10, [ROW | changes]))


@pytest.mark.parametrize(
    ("row", "title", "text"),
    [
        ({}, "Key alias/orders is disabled.", "Nothing is known to depend on it."),
        (
            {"grants": None, "freshness": "stale"},
            "Key alias/orders is disabled (last known state).",
            "Nothing is known to depend on it, but its grants are unknown.",
        ),
        (
            DELETED | {"affected": 1, "names": ["db"], "services": [{"service": "rds", "resources": 1}]},
            "Key alias/orders will be deleted in 3 days, on 2026-12-24.",
            "1 resource (1 RDS) depends on it: db.",
        ),
        (
            {"affected": 8, "names": list("abcde"), "grants": 1, "parties": ["Checkmarx"], "deadline": DATE, "days_left": 1},
            "Key alias/orders is disabled.",
            ("6 resources, 1 grant and Checkmarx depend on it: a, b, c and 3 more. "
             "Data is lost tomorrow, on 2026-12-24, at the latest."),
        ),
        ({"key_alias": None, "key_state": "deleted"}, "Key k1 no longer exists.", "Nothing is known to depend on it."),
        (
            {"key_state": "Enabled", "deadline": DATE, "days_left": 9, "affected": 1, "names": ["db"]},
            "The key material of alias/orders expires in 9 days, on 2026-12-24.",
            "1 resource depends on it: db.",
        ),
        (
            DELETED | {"days_to_deletion": -1},
            "Key alias/orders was due to be deleted 1 day ago, on 2026-12-24.",
            "Nothing is known to depend on it.",
        ),
        ({"key_state": "Exotic"}, "Key alias/orders cannot be used: its state is Exotic.", "Nothing is known to depend on it."),
        (
            GROUP | {"key_state": "PendingDeletion", "deadline": DATE, "days_left": 0},
            "1 key that nothing is known to use will be deleted today, on 2026-12-24.",
            "Affected: a.",
        ),
        (
            GROUP | {"key_state": "PendingDeletion", "deadline": DATE, "days_left": 2, "affected": 4, "names": list("abcd")},
            "4 keys that nothing is known to use will be deleted, the first in 2 days, on 2026-12-24.",
            "Affected: a, b, c and 1 more.",
        ),
        (
            GROUP | {"key_state": "PendingDeletion", "deadline": DATE, "days_left": 2, "failed": 0},
            "1 key will be deleted in 2 days, on 2026-12-24; whether something uses it is unknown.",
            "Affected: a.",
        ),
        (
            {"last_used_at": DATE},
            "Key alias/orders is disabled.",
            "Nothing is known to depend on it. It was last used on 2026-12-24.",
        ),
        (
            GROUP | {"kind": "access", "parties": ["account 1"], "evidence": evidence("key-external-access")},
            "Account 1 has access to 1 key.",
            "Affected: a.",
        ),
        (
            GROUP | {"kind": "access", "parties": ["A", "B"], "evidence": EXCESS, "affected": 2},
            "A and B have more access than they need to 2 keys.",
            "Affected: a and 1 more.",
        ),
        (
            GROUP | {"kind": "access", "parties": ["A"], "evidence": evidence("vendor-access-new"), "noun": "resource"},
            "A gained access to 1 resource.",
            "Affected: a.",
        ),
        (
            GROUP | {"kind": "vendor", "parties": ["A"], "evidence": evidence("vendor-key-usable")},
            "A cannot use 1 key that it needs.",
            "Affected: a.",
        ),
        (
            GROUP | {"kind": "vendor", "parties": ["A"], "evidence": BLOCKED, "affected": 3},
            "A cannot use 2 keys that it needs; its setup has 1 deviation from vendor requirements.",
            "Affected: a and 2 more.",
        ),
        (
            GROUP | {"kind": "vendor", "parties": ["A"], "evidence": evidence("vendor-profile", failed=2), "affected": 2},
            "A: 2 deviations from vendor requirements.",
            "Affected: a and 1 more.",
        ),
        (GROUP | {"kind": "rule"}, "alias/orders fails the rule “Rule”.", "The reason."),
        (GROUP | {"kind": "rule", "affected": 2}, "2 keys fail the rule “Rule”.", "Affected: a and 1 more."),
        (
            GROUP | {"kind": "coverage", "cause": "no role", "evidence": evidence("account-not-crawled"), "unknown": 1},
            "Incomplete coverage: no role.",
            "Affected: a. 1 result of high or critical severity is unknown.",
        ),
        (
            GROUP | {"kind": "coverage", "cause": "rule x", "evidence": evidence("x", failed=0, unknown=1), "unknown": 1},
            "Inconclusive results about 1 key: the rule “Rule” could not be decided.",
            "Affected: a. 1 result of high or critical severity is unknown.",
        ),
        (
            GROUP | {"kind": "coverage", "cause": "denied", "evidence": evidence("x", failed=0, unknown=2), "unknown": 2},
            "Inconclusive results about 1 key: denied.",
            "Affected: a. 2 results of high or critical severity are unknown.",
        ),
    ],
)  # fmt: skip
def test_words(row: dict[str, Any], title: str, text: str) -> None:
    """The title says what happens and until when, the text who is affected; singular and plural are right."""
    [item] = words(**row).items
    assert (item.title, item.text) == (title, text)


@pytest.mark.parametrize(
    ("row", "commands"),
    [
        (DELETED, [["aws", "kms", "cancel-key-deletion"], ["aws", "kms", "enable-key"]]),
        ({}, [["aws", "kms", "enable-key"]]),
        (
            {"key_state": "Unavailable", "custom_key_store_id": "cks-1"},
            [["aws", "kms", "connect-custom-key-store"]],
        ),
        ({"key_state": "deleted"}, []),
        ({"key_state": "PendingImport"}, []),
    ],
)
def test_a_key_has_the_commands_that_repair_it(row: dict[str, Any], commands: list[list[str]]) -> None:
    """CancelKeyDeletion leaves a key disabled (KMS API reference), so that EnableKey follows; a deleted key has no command."""
    [item] = words(**row).items
    assert [shlex.split(command)[:3] for command in item.commands] == commands
    assert item.action


def test_commands_are_quoted_for_a_shell() -> None:
    """A hostile name is one argument of the command, never a second command."""
    hostile = "it's; rm -rf $(x)"
    database = {"name": hostile, "type": "AWS::RDS::DBCluster", "region": "eu-west-1"}
    [item] = words(databases=[database]).items
    assert shlex.split(item.commands[-1]) == [
        "aws", "rds", "start-db-cluster", "--region", "eu-west-1", "--db-cluster-identifier", hostile,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(shared_directory: Path) -> Path:
    return made_once(shared_directory / "situations", make_situations)


@pytest.fixture(scope="module")
def attention(folder: Path) -> Node:
    """The section of the report."""
    settings = situation_settings(folder)
    write([find("overview")], settings.report.mart, folder / "out", settings)
    return read((folder / "out" / "kmsledger-overview.html").read_text(encoding="utf-8")).one("section", id="attention")


def test_the_report_shows_five_and_folds_the_others(
    attention: Node, situation_reader: duckdb.DuckDBPyConnection
) -> None:
    """Five entries are visible; the others are one click away, and the text says how many there are."""
    expected = situation_reader.execute(
        "SELECT situation_id FROM situations ORDER BY deadline NULLS LAST, "
        "list_position(['critical', 'high', 'medium', 'low', 'info'], severity), affected DESC, situation_id"
    ).fetchall()
    first, more = (list(entries.own("li")) for entries in attention.all("ol", class_="action-items"))
    assert [f"s-{row[0]}" for row in expected] == [item.attributes["id"] for item in (*first, *more)]
    assert len(first) == SHOWN < len(expected)
    assert attention.one("details", id="more-situations").text.startswith(f"{len(more)} more ")
    assert attention.one("p", class_="lead").text.startswith(f"{len(expected)} situations")


def test_hostile_names_are_text(attention: Node) -> None:
    """Names from AWS add no element to the section."""
    assert HOSTILE in attention.text
    assert not list(attention.all("script"))


def test_the_mail_shows_ten_and_the_command_for_all(situation_reader: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The mail has the ten most urgent situations and the number and command of the rest; its subject says what matters."""
    settings = situation_settings(folder)
    made = summary(situation_reader, settings)
    total = made.attention_total
    assert len(made.attention) == FIRST < total
    assert made.attention[0].title == f"Key alias/going will be deleted in 3 days, on {DELETION:%Y-%m-%d}."
    assert made.subject == ("4 keys will be deleted within 7 days", "15 situations", "1 account-region not read")
    message = compose(made, mail_settings(), recipient="b@example.org")
    assert message["Subject"] == f"[kmsledger] {settings.report.title}: " + " · ".join(made.subject)
    for form in ("plain", "html"):
        body = message.get_body((form,))
        assert body is not None
        text = " ".join(body.get_content().split())
        assert f"and {total - FIRST} more in the report, or run `kmsledger cookbook situations`" in text
        assert "<script>" not in text or form == "plain"


def mail_settings() -> Any:
    """Settings with a mail server."""
    settings = situation_settings(Path("/nowhere")).model_copy()
    values = {"mail": {"host": "localhost", "sender": "a@example.org", "recipients": ["b@example.org"]}}
    return type(settings).model_validate(values, context={"base": "/"}).mail


def test_an_order_without_situations_is_empty(situation_reader: duckdb.DuckDBPyConnection) -> None:
    """With a smaller limit, the query still counts all situations."""
    run = {"at": SECOND_RUN, "run_id": 2}
    limited = situations(Source(situation_reader).limited("situations", 3, **run))
    assert len(limited.items) == 3 < limited.total
