"""The report about what changed between two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.settings import Settings
from models.severities import SEVERITIES
from reports.html.registry import UnknownReportError, find, write
from reports.mart.errors import QueryError
from tests.reports.html.page import Node, broken_links, read


def changes(settings: Settings, directory: Path, since: str | None = None, as_of: str | None = None) -> Node:
    path, *_ = write([find("changes", since=since)], settings.report.mart, directory, settings, as_of=as_of)
    return read(path.read_text(encoding="utf-8"))


def test_changes_by_account_and_key(settings: Settings, tmp_path: Path) -> None:
    """The changes since the previous run are grouped by account and key, each group and account by its most important change."""
    page = changes(settings, tmp_path)
    accounts = [
        [mark.text for mark in section.all("span", class_="mark")]
        for section in page.all("section")
        if section.attributes["id"].startswith("account-")
    ]
    assert sorted(len(marks) for marks in accounts) == [1, 4]
    firsts = [SEVERITIES.index(marks[0]) for marks in accounts]
    assert firsts == sorted(firsts)
    rows = page.data("differences")
    assert [row["severity"] for row in rows] == sorted(
        (mark for marks in accounts for mark in marks), key=SEVERITIES.index
    )
    figures = [int(node.text) for node in page.one("section", id="summary").all("dd", class_="big")]
    assert figures == [sum(row["severity"] == severity for row in rows) for severity in SEVERITIES]
    assert broken_links(page) == set()


def test_policy_changes_are_statements(settings: Settings, tmp_path: Path) -> None:
    """A changed policy is shown as added and removed statements, a changed value before and after."""
    page = changes(settings, tmp_path)
    added = [node.text for node in page.all("span", class_="added")]
    removed = [node.text for node in page.all("span", class_="removed")]
    assert any(text.startswith("statement Vendor: Allow 754581900792: kms:Decrypt, kms:Encrypt") for text in added)
    assert "PendingDeletion" in added
    assert "Enabled" in removed
    (policy,) = [row for row in page.data("differences") if row["event_type"] == "policy opened"]
    assert policy["details"].startswith("+ statement Vendor: Allow")


def test_since_an_earlier_run(settings: Settings, tmp_path: Path) -> None:
    """--since selects the earlier run: the net differences include what happened in between, in a file named after it."""
    page = changes(settings, tmp_path, since="1")
    assert "From run 1" in page.one("header", class_="top").text
    assert any("Payments" in row["message"] for row in page.data("differences"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "kmsledger-changes-since-run1-run3.html",
        "kmsledger-changes-since-run1.html",
    }


def test_as_of_an_earlier_run(settings: Settings, tmp_path: Path) -> None:
    """As of an earlier run, its changes are listed; the first run has nothing to compare with."""
    page = changes(settings, tmp_path, as_of="2")
    assert "to run 2" in page.one("header", class_="top").text
    assert not any("scheduled for deletion" in row["message"] for row in page.data("differences"))
    first = changes(settings, tmp_path, as_of="1")
    assert "This is the first run: there is nothing to compare it with." in first.one("section", id="summary").text


def test_gaps_are_not_changes(settings: Settings, tmp_path: Path) -> None:
    """What one of the runs could not read is listed with its reason, and not as a change."""
    gaps = changes(settings, tmp_path).one("section", id="unknown")
    assert "in both runs: a policy explicitly denies the request" in gaps.text


def test_invalid_runs_are_errors(settings: Settings, tmp_path: Path) -> None:
    """An unknown run, a later run, and --since for another report are one sentence, with exit code 2."""
    with pytest.raises(QueryError, match="there is no run 9"):
        changes(settings, tmp_path, since="9")
    with pytest.raises(QueryError, match="is later than"):
        changes(settings, tmp_path, since="3", as_of="2")
    with pytest.raises(UnknownReportError, match="--since is an option of the report changes, not of overview"):
        find("overview", since="1")
