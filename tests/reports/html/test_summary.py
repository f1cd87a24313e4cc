"""The summary for the mail agrees with the report."""

from __future__ import annotations

import datetime as dt

import duckdb

from models.settings import Settings
from reports.html.summary import summary
from reports.mart.connection import connect
from reports.notify.message import Summary, compose
from reports.pipeline import refresh
from tests.reports.html.conftest import Make
from tests.reports.html.page import Node
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, only
from tests.reports.sample_ledger import IRELAND, SHOP


def test_the_summary_agrees_with_the_report(mart: duckdb.DuckDBPyConnection, settings: Settings, page: Node) -> None:
    """Attention, changes and gaps are those of the page, in its order, with its totals."""
    made = summary(mart, settings)
    assert (made.status, made.run_id, made.unchanged_since) == ("partial", 3, None)
    assert made.finished_at == dt.datetime(2026, 11, 22, 3, 4, tzinfo=dt.UTC)
    notices = [
        item.one("p", class_="what").text for items in page.all("ol", class_="action-items") for item in items.own("li")
    ]
    assert [" ".join(filter(None, (item.title, item.text))) for item in made.attention] == notices[:10]
    assert made.attention_total == len(notices)
    changes = page.rows("changes")
    assert made.changes_total == len(changes)
    assert all(row.cells[1].startswith(sentence) for row, sentence in zip(changes, made.changes, strict=True))
    assert made.gaps == tuple(item.text for item in page.one("div", class_="cover").all("li"))
    assert made.gaps_total == len(made.gaps)


def test_the_headline_says_what_is_unknown(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Each figure includes its unknown part."""
    headline = dict(summary(mart, settings).headline)
    assert headline["Account-regions read completely"] == "4 of 7 (57 %)"
    assert headline["Customer managed keys"] == "13 (1 partly unknown)"
    totals = mart.execute(
        "SELECT count(*) FILTER (status = 'fail'), count(*) FILTER (status = 'unknown') FROM findings"
    )
    assert (headline["Findings that fail"], headline["Findings unknown"]) == tuple(map(str, totals.fetchone() or ()))
    assert headline["Findings waived"] == "0"


def test_the_trend_ends_with_the_figures_of_the_headline(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The latest run of the trend has the findings of the headline."""
    made = summary(mart, settings)
    assert made.trend
    headline, last = dict(made.headline), made.trend[-1]
    assert last.run_id == made.run_id
    assert (f"{last.failed:,}", f"{last.unknown:,}") == (headline["Findings that fail"], headline["Findings unknown"])


def test_new_findings_need_an_earlier_night(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """If rules ran for the first time, no finding is reported as new."""
    made = summary(mart, settings)
    assert (made.status_changes, made.new_findings, made.new_findings_total) == (None, (), 0)


def test_a_mail_can_be_made_of_it(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """A mail can be composed from the summary, including hostile names."""
    made: Summary = summary(mart, settings)
    mail = Settings.model_validate(
        {"mail": {"host": "localhost", "sender": "a@example.org", "recipients": ["b@example.org"]}},
        context={"base": "/"},
    ).mail
    assert mail is not None
    message = compose(made, mail, recipient="b@example.org")
    assert message["Subject"].startswith("[kmsledger] KMS ledger: ")


def test_a_run_is_unchanged_if_nothing_differs_from_the_previous_one(make_settings: Make) -> None:
    """A run is unchanged if it has the facts, findings and gaps of the previous one, and no data is lost within a week."""
    made = make_settings(rules=only("imported-material-expires"))
    world = LedgerBuilder(made.database)
    world.account(SHOP, "shop", IRELAND)
    expiry = FIRST_RUN + dt.timedelta(days=10)
    world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000001", origin="EXTERNAL", material_expires_at=expiry)

    def unchanged_since() -> int | None:
        world.crawl()
        refresh(made)
        with connect(made.report.mart) as mart:
            return summary(mart, made).unchanged_since

    assert unchanged_since() is None, "there is nothing to compare with"
    world.gap(SHOP, IRELAND, "kms:ListAliases")
    assert unchanged_since() is None, "a gap that is new"
    assert unchanged_since() == 2
    assert unchanged_since() is None, "data is lost in seven days"
