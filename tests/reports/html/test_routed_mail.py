"""Mails of routes: what a report about an account or owner has, and nothing of others."""

from __future__ import annotations

import re

import duckdb
import pytest

from models.settings import MailSettings, Settings
from reports.html.registry import find, limit
from reports.html.summary import summary
from reports.mart.mart_reader import open_mart
from reports.notify.message import Summary, compose
from reports.notify.webhook import payload
from tests.reports.html.test_subjects import SUBJECTS, arns_of, column, facts_naming, names_of_others
from tests.reports.sample_ledger import LOCKED, PAYMENTS


def routed(settings: Settings, kind: str, name: str) -> Summary:
    """The content of the mail about an account or owner."""
    with open_mart(settings.report.mart, stored=True)[0] as connection:
        return summary(connection, settings, limit(connection, find(kind, name), name))


@pytest.mark.parametrize(("kind", "name"), SUBJECTS)
def test_nothing_of_others(settings: Settings, mart: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
    """No name of another key, resource, account or owner is in the content, unless a fact of the subject has it."""
    mine = list(arns_of(mart, kind, name))
    accounts = [*column(mart, "SELECT account_id FROM owners WHERE owner = ?", name), name]
    naming = facts_naming(mart, mine)
    content = routed(settings, kind, name)
    mail = MailSettings.model_validate({"host": "h", "sender": "a@example.org", "recipients": ["b@example.org"]})
    text = payload(content).decode("unicode-escape") + compose(content, mail, recipient="b@example.org").as_string()
    foreign = names_of_others(mart, mine, accounts)
    whole = payload(summary(mart, settings)).decode("unicode-escape")
    assert any(other in whole for other in foreign), "the mail about the organization names others"
    assert {other for other in foreign if re.search(rf"\b{re.escape(other)}", text) and other not in naming} == set()
    owners = column(
        mart,
        "SELECT owner FROM owners EXCEPT SELECT owner FROM owners WHERE list_contains($1, resource_arn)",
        [*mine, name],
    )
    assert {other for other in owners if f"owner {other}" in text} == set()
    assert "kmsledger cookbook situations" not in text


def test_the_figures_are_those_of_the_account(settings: Settings, mart: duckdb.DuckDBPyConnection) -> None:
    """Findings, gaps and changes of the mail are those of the account, with the account in the title."""
    content = routed(settings, "account", PAYMENTS)
    (failed,) = column(mart, "SELECT count(*) FROM findings WHERE status = 'fail' AND account_id = ?", PAYMENTS)
    headline = dict(content.headline)
    assert headline["Findings that fail"] == failed
    assert content.title.endswith(f"({PAYMENTS})")
    assert 0 < content.attention_total < 10
    assert content.unchanged_since is None


def test_a_mail_about_a_vendor(settings: Settings, mart: duckdb.DuckDBPyConnection) -> None:
    """The mail about a vendor has its name in the title, and only findings of keys that concern it."""
    content = routed(settings, "vendor", "Checkmarx")
    assert content.title.endswith("Checkmarx")
    keys = "SELECT key_arn FROM vendors WHERE party = 'Checkmarx' UNION SELECT key_arn FROM vendor_checks WHERE vendor = $1"
    query = f"SELECT count(*) FROM findings WHERE status = 'fail' AND key_arn IN ({keys})"
    assert column(mart, query, "Checkmarx") == {str(dict(content.headline)["Findings that fail"])}


def test_an_account_that_was_not_read(settings: Settings, mart: duckdb.DuckDBPyConnection) -> None:
    """The mail about an account with unread regions never says that every account and region was read."""
    assert column(mart, "SELECT region FROM coverage WHERE account_id = ? AND outcome = 'failed'", LOCKED)
    assert routed(settings, "account", LOCKED).status == "partial"
