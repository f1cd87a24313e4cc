"""The overview report: every number agrees with its table, unknowns are shown, hostile text is inert."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from pathlib import Path

import duckdb
import pytest

from models.settings import Settings
from reports.html.labels import CLASSES
from reports.html.overview_report import OverviewReport
from reports.html.query_runner import Source
from reports.html.situations import COMMAND
from reports.html.summary import summary
from reports.mart.connection import connect
from reports.pipeline import build_mart, refresh
from tests.reports.html.conftest import INJECTED, LONG, Make, report_of, world_of
from tests.reports.html.page import Node, Row, broken_links, read
from tests.reports.ledger_builder import LedgerBuilder, only
from tests.reports.sample_ledger import DATA, IRELAND, LOCKED, SHOP, STRANGER


def number(text: str) -> int:
    return int(text.replace(",", ""))


def tile(page: Node, label: str) -> tuple[int, list[str]]:
    """The number of a tile and the lines below it."""
    (found,) = [one for one in page.all("div", class_="tile") if one.one("dt").text == label]
    return number(found.one("dd", class_="big").text), [line.text for line in found.all("dd", class_="sub")]


def figure(page: Node, label: str) -> Node:
    """A figure of the summary."""
    (found,) = [one for one in page.all("a", class_="figure") if one.one("span", class_="label").text == label]
    return found


def row_with(rows: list[Row], text: str) -> Row:
    (found,) = [row for row in rows if text in row.text]
    return found


def section(page: Node, name: str) -> Node:
    return page.one("section", id=name)


def test_the_figures_agree_with_the_tables(page: Node, mart: duckdb.DuckDBPyConnection) -> None:
    """Each figure of summary and contents is the number of rows in its table and in the mart."""
    keys = page.data("keys")
    customer = [row for row in keys if row["manager"] == "CUSTOMER"]
    assert tile(page, "Customer managed keys")[0] == len(customer)
    assert tile(page, "AWS managed keys") == (len(keys) - len(customer), ["policies of 1 not requested"])
    failed = [row for row in page.data("findings") if row["status"] == "fail"]
    assert len(failed) == sum(row["fail"] for row in page.data("rules"))
    severe = [row for row in failed if row["severity"] in {"critical", "high"}]
    assert number(figure(page, "Open critical and high findings").one("span", class_="big").text) == len(severe)
    parties = page.data("external_access")
    assert number(figure(page, "Parties with access").one("span", class_="big").text) == len(parties) > 0
    at_risk = [row for row in failed if row["rule_id"] == "key-unusable-in-use"]
    assert number(figure(page, "Keys at risk").one("span", class_="big").text) == len(at_risk)
    assert "4 of 7 account-regions read completely" in figure(page, "Coverage").text
    assert f"Changes {len(page.rows('changes'))}" in page.one("nav").text
    resources, lines = tile(page, "Resources that can use keys")
    uses = len(page.data("references"))
    assert f"{uses} references to keys" in lines
    assert (resources, uses) == counts(mart, "resources", "resource_keys")
    gaps = len(page.data("gaps"))
    assert f"{gaps} responses are missing" in page.one("div", class_="cover").text
    assert f"Coverage and gaps {gaps}" in page.one("nav").text
    assert tile(page, "Grants")[0] == sum(row["grants"] or 0 for row in keys)


def counts(mart: duckdb.DuckDBPyConnection, *views: str) -> tuple[int, ...]:
    return tuple((mart.execute(f"SELECT count(*) FROM {view}").fetchone() or (0,))[0] for view in views)


def test_the_shares_of_a_service_are_those_of_its_table(page: Node) -> None:
    """The counts by key class and the label of their bar match the rows below."""
    shares = page.one("table", class_="shares")
    kinds = [head.text for head in shares.one("thead").all("th")][2:-1]
    for line in shares.one("tbody").own("tr"):
        cells = line.own("td")
        rows = (
            [row for row in page.data("references") if row["service"] == cells[0].own("a")[0].text]
            if counts_of(cells)
            else []
        )
        for kind, cell in zip(kinds, cells[2:-1], strict=True):
            assert number(cell.text) == len([row for row in rows if CLASSES[row["key_class"]] == kind]), (
                cells[0].text,
                kind,
            )
            labels = [bar.attributes["aria-label"] for bar in cells[1].all("span", class_="bar")]
            assert all((f"{kind} {cell.text}" in label) == (cell.text != "0") for label in labels)
        assert number(cells[-1].text) == len(rows)


def counts_of(cells: list[Node]) -> int:
    return number(cells[-1].text)


def test_each_chart_has_its_values_in_words(page: Node) -> None:
    """An SVG has a label, or is hidden from screen readers; the numbers of the large charts are in a table."""
    charts = list(page.all("svg"))
    assert len(charts) > 10
    for chart in charts:
        assert chart.attributes.get("aria-label") or chart.attributes.get("aria-hidden") == "true"
    spark = figure(page, "Open critical and high findings").one("svg").attributes["aria-label"]
    assert re.fullmatch(r"critical and high, 3 runs: 2026-11-22: (\d+), highest \1; unknown in 2 of 3 runs", spark)
    (line,) = [row for row in section(page, "trends").all("tr") if row.own("th") and row.own("th")[0].text == "3"]
    severities = [row["severity"] for row in page.data("findings") if row["status"] == "fail"]
    counts = [number(cell.text) for cell in line.own("td")[1:6]]
    assert counts == [severities.count(name) for name in ("critical", "high", "medium", "low", "info")]


def test_the_heat_map_has_the_outcomes(page: Node) -> None:
    """An account that was not read, responses that are missing, and regions that were read, each with a sign."""
    (heat,) = page.all("table", class_="heat")
    cells = {row.own("th")[0].text: row.own("td") for row in heat.one("tbody").own("tr")}
    assert [cell.text for cell in cells["Locked"]] == ["\N{EN DASH}", "✕", "\N{EN DASH}"]
    assert [cell.attributes["title"] for cell in cells["Shop"]] == ["1 gap", "read completely", "read completely"]
    assert [cell.text for cell in cells["Shop"]] == ["1", "✓", "✓"]


def test_the_parties_with_access_and_what_they_reach(page: Node, mart: duckdb.DuckDBPyConnection) -> None:
    """Each party of the view vendors has its keys and their dependents; unknown parties come first and are not agreed with."""
    rows = {row["party"]: row for row in page.data("external_access")}
    expected = mart.execute(
        "SELECT party, any_value(access), count(DISTINCT key_arn) FROM vendors GROUP BY party"
    ).fetchall()
    assert {name: row["key_count"] for name, row in rows.items() if name != "Everyone"} == {
        name: keys for name, _, keys in expected
    }
    kinds = {"vendor": "known_party", "external": "external_account"}
    for name, access, keys in expected:
        row = rows[name]
        assert row["kind"] == kinds[access]
        assert (row["agreement"] == "not_agreed") == (access == "external")
        assert len(row["key_list"]) == keys
        ((resources,),) = mart.execute(
            "SELECT count(DISTINCT resource_arn) FROM resource_keys "
            "WHERE key_arn IN (SELECT key_arn FROM vendors WHERE party = ?)",
            [name],
        ).fetchall()
        counted = sum(map(int, re.findall(r"(\d+) [A-Z]", row["data"])))
        assert counted == resources
    assert [row["kind"] for row in page.data("external_access")] == sorted(
        (row["kind"] for row in rows.values()), key=lambda kind: (kind == "known_party", kind)
    )


def test_a_denied_call_is_unknown(page: Node) -> None:
    """Policy, grants, tags and rotation of a key that were denied are unknown, never 0, none or blank."""
    (locked,) = [row for row in page.data("keys") if "000000000011" in row["key_arn"]]
    assert (locked["rotation"], locked["grants"], locked["stale"]) == (None, None, None)
    assert locked["summary"] == "Policy unknown, grants unknown, tags unknown; 4 responses missing"
    facts = dict(locked["facts"])
    assert facts["Tags"] == "unknown"
    assert "kms:GetKeyPolicy, kms:GetKeyRotationStatus, kms:ListGrants, kms:ListResourceTags" in facts["Unknown"]
    assert (locked["policy_note"], locked["grants_note"]) == ("unknown", "unknown")
    (hidden,) = [row for row in page.data("references") if row["resource_name"] == "shop-hidden"]
    assert hidden["key_class"] == "unknown"
    assert hidden["reason"] == "a policy explicitly denies the request (s3:GetEncryptionConfiguration)"
    written = [row for row in page.rows("keys") if "000000000011" in row.text]
    assert all(row.cells[4].startswith("unknown") and row.cells[-2] == "unknown" for row in written)


def test_data_that_was_not_requested_is_unknown(page: Node) -> None:
    """Policy, grants and tags of an AWS managed key that were not requested are unknown, with that reason."""
    (key,) = [row for row in page.data("keys") if "0000000000bb" in row["key_arn"]]
    assert key["grants"] is None
    assert key["summary"] == "Policy unknown, grants unknown, tags unknown: not requested"
    notes = (dict(key["facts"])["Tags"], key["policy_note"], key["grants_note"])
    assert set(notes) == {"unknown: not requested for AWS managed keys"}


def test_the_header_says_what_is_missing(page: Node) -> None:
    """The header of a partial run has the share that was read, and each cause with its account and region."""
    cover = page.one("div", class_="cover")
    assert "partial" in cover.classes
    text = cover.text
    assert (
        "Not everything could be read. 4 of 7 account-regions (57 %) were read completely, 2 with gaps, 1 not at all"
        in text
    )
    causes = [item.text for item in cover.all("li")]
    assert (
        f"Locked ({LOCKED}), {IRELAND}: nothing was read: the role does not exist or does not trust the crawler."
        in causes
    )
    assert any(
        cause.startswith("kms:GetKeyPolicy, kms:GetKeyRotationStatus, kms:ListGrants and 1 more in") for cause in causes
    )


def test_what_needs_attention(page: Node) -> None:
    """Keys with what depends on them, databases that lost their key, parties with access, and unread accounts, once each."""
    entries = [entry for entries in section(page, "attention").all("ol") for entry in entries.own("li")]
    items = [f"{next(entry.all('span', class_='mark')).text} {entry.one('p', class_='what').text}" for entry in entries]
    for text in (
        "critical Key alias/archive/2019 is disabled. 1 resource (1 RDS) depends on it: archive. Data is lost in 5 days,",
        "critical Key alias/invoices will be deleted in 29 days, on 2026-12-21. 3 resources (1 RDS, 1 S3, 1 Secrets Manager) and",
        "Incomplete coverage: the role does not exist or does not trust the crawler.",
    ):
        assert len([item for item in items if text in item]) == 1, text
    assert items[0].startswith("critical Key alias/archive/2019")
    assert f"Act today {len(items)}" in page.one("nav").text


def test_every_link_leads_somewhere(page: Node) -> None:
    """Each link has its target on the page or in the rows of a table; no element shares its id."""
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert broken_links(page) == set()


def test_the_changes_are_sentences_with_before_and_after(page: Node) -> None:
    """The report lists exactly the five changes of the last run, by severity."""
    rows = page.rows("changes")
    assert [row.cells[0] for row in rows] == ["critical", "medium", "medium", "medium", "low"]
    deletion = row_with(rows, "was scheduled for deletion on 2026-12-21")
    assert deletion.cells[3] == "Enabled PendingDeletion, 2026-12-21"
    removed = row_with(rows, "Tag DataTier=database was removed")
    assert removed.cells[3] == "database"


def test_external_principals_come_first(page: Node) -> None:
    """Everyone, external accounts, known parties, deleted principals; then principals inside the organization."""
    parties = [row["party"] for row in page.data("principals") if row["effect"] != "Deny"]
    assert list(dict.fromkeys(parties))[:4] == ["public", "external_account", "known_party", "deleted_principal"]
    inside = ("own_organization", "own_account", "aws_service")
    assert [party in inside for party in parties] == sorted(party in inside for party in parties)
    (known,) = [row for row in page.rows("principals") if "Known external party" in row.cells[1]]
    assert "Vendor <b>Inc</b>" in known.cells[1]
    assert (
        "More principals may be named: the policy of 1 key and the grants of 1 key are unknown."
        in section(page, "parties").text
    )


def test_the_matrix_and_the_gaps(page: Node) -> None:
    """Each account has its outcomes in words; each gap its action, subject, cause and age.

    A region that is enabled nowhere is counted above and has no column.
    """
    lines = {row.node.attributes["id"].removeprefix("account-"): row.cells[1:] for row in page.rows("coverage")}
    assert lines[LOCKED] == ["", "not read", ""]
    assert lines[SHOP] == ["1 gap", "\u2713", "\u2713"]
    assert "1 region not enabled" in section(page, "coverage").text
    assert "4 gaps" in lines[DATA]
    (gap,) = [row for row in page.data("gaps") if row["action"] == "kms:ListGrants"]
    assert (gap["region"], gap["since"], gap["runs"]) == (IRELAND, "2026-11-20", 3)
    assert gap["cause"].startswith(
        "the key policy neither delegates the request to IAM nor allows it to the crawler's role"
    )


def test_hostile_text_is_inert_and_visible(path: Path, page: Node) -> None:
    """Markup from AWS is text, invisible and bidirectional characters are written out, long values are complete."""
    assert len(list(page.all("script"))) == 1
    assert not list(page.all("img"))
    assert not [name for node in page.all() for name in node.attributes if name.startswith("on")]
    (key,) = [row for row in page.data("keys") if "0000000000aa" in row["key_arn"]]
    assert key["name"] == INJECTED
    facts = dict(key["facts"])
    assert "invoice<U+202E>gnp.exe<U+200B> = '\"`&amp;" in facts["Tags"]
    assert facts["Description"] == LONG
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f]", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-01-01 23:30 UTC"),
        ("Europe/Berlin", "2026-01-01 23:30 UTC (2026-01-02 00:30 CET)"),
        ("America/New_York", "2026-01-01 23:30 UTC (18:30 EST)"),
    ],
)
def test_a_time_in_the_configured_zone(
    mart: duckdb.DuckDBPyConnection, settings: Settings, zone: str, text: str
) -> None:
    """A time is in UTC, and in parentheses in the zone of the settings, with the date if that differs."""
    report = settings.report.model_copy(update={"time_zone": zone})
    moment = dt.datetime(2026, 1, 1, 23, 30)  # noqa: DTZ001 - as the mart has times
    assert OverviewReport(Source(mart), settings.model_copy(update={"report": report})).clock(moment) == text


def test_a_table_that_is_cut_says_so(settings: Settings, tmp_path: Path) -> None:
    """Above the limit, a note has the number of rows that are not in the file and the command that prints all rows."""
    report = settings.report.model_copy(update={"list_limit": 10})
    cut = read(report_of(settings.model_copy(update={"report": report}), tmp_path).read_text(encoding="utf-8"))
    assert len(cut.rows("keys")) == len(cut.data("keys")) == 10
    with connect(settings.report.mart) as mart:
        ((total,),) = mart.execute("SELECT count(*) FROM keys").fetchall()
        (note,) = cut.one("section", id="keys").all("p", class_="cut")
        assert note.text.startswith(f"{total - 10} of {total} keys are not in this file, the least important.")
        commands = [code.text for note in cut.all("p", class_="cut") for code in note.all("code")]
        assert len(commands) > 3
        assert COMMAND in commands
        for command in set(commands) - {COMMAND}:
            program, name, query = shlex.split(command)
            assert (program, name) == ("kmsledger", "sql")
            assert mart.execute(query).fetchall(), query


@pytest.fixture(scope="module")
def calm(make_settings: Make) -> Node:
    """The report of a complete first run without problems, and without the rules that lack data here."""
    settings = make_settings(rules=only("key-rotation", "key-unusable-in-use", "key-policy-public"))
    world = LedgerBuilder(settings.database)
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000001")
    world.crawl()
    refresh(settings)
    return read(report_of(settings).read_text(encoding="utf-8"))


def test_a_calm_first_night(calm: Node) -> None:
    """The report states that all was read, that the first run has no comparison, and that nothing needs attention."""
    assert (
        "Everything in scope was read. 1 of 1 account-region (100 %) was read completely."
        in calm.one("div", class_="cover").text
    )
    assert "Nothing: no key in use is disabled or pending deletion" in section(calm, "attention").text
    assert "This is the first run: there is nothing to compare it with." in section(calm, "changes").text
    assert "There are no gaps: every call succeeded." in section(calm, "coverage").text
    assert "nothing to compare with" in figure(calm, "Coverage").text
    assert figure(calm, "Act today").one("span", class_="big").text == "0"
    test_every_link_leads_somewhere(calm)


def test_without_results_of_rules_nothing_is_calm(make_settings: Make) -> None:
    """Before rules were evaluated, the figures that depend on them are unknown, and the report does not say that all is well."""
    settings = make_settings()
    world = LedgerBuilder(settings.database)
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000001", state="Disabled")
    world.crawl()
    build_mart(settings, settings.report.mart)
    page = read(report_of(settings).read_text(encoding="utf-8"))
    for label in ("Act today", "Open critical and high findings", "Keys at risk"):
        assert figure(page, label).one("span", class_="big").text == "unknown"
    assert section(page, "attention").one("p", class_="calm").text == "Unknown: the rules were not evaluated yet."
    with connect(settings.report.mart) as mart:
        assert summary(mart, settings).subject == ("rules not evaluated",)


@pytest.mark.deep
def test_a_ledger_without_keys(make_settings: Make) -> None:
    """The report of an account without keys says so."""
    settings = make_settings()
    world = LedgerBuilder(settings.database)
    world.account(SHOP, "Shop", IRELAND)
    world.crawl()
    refresh(settings)
    page = read(report_of(settings).read_text(encoding="utf-8"))
    assert "No key was found." in section(page, "keys").text
    cover = page.one("div", class_="cover")
    assert "partial" in cover.classes
    assert re.search(r"Every account and region in scope was read, but \d+ findings? (is|are) unknown", cover.text)
    assert "No resource is known to use a key." in section(page, "protects").text


@pytest.mark.deep
def test_quiet_behind_gaps_is_not_calm(make_settings: Make) -> None:
    """If something could not be read, "nothing changed" is limited to what could be read."""
    settings = make_settings()
    world = world_of(settings)
    world.crawl()
    world.crawl()
    refresh(settings)
    page = read(report_of(settings).read_text(encoding="utf-8"))
    assert "Nothing changed in what could be read." in section(page, "changes").text


def test_a_key_that_is_not_in_the_ledger_is_named(page: Node) -> None:
    """A resource whose key was not crawled, or does not exist, is listed with the account of the key."""
    rows = page.rows("dependents")
    stranger = row_with(rows, "shop-partner")
    assert stranger.cells[1] == f"{STRANGER} {IRELAND}"
    assert stranger.cells[2] == "Key not crawled"
    lost = row_with(rows, "shop/old")
    assert lost.cells[1] == f"Shop {SHOP} {IRELAND}"
    assert lost.cells[2] == "Key does not exist"


def test_a_link_to_a_principal_has_its_row(mart: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """A finding or gap about a principal links to its row, if the page has one; any other link is kept."""
    report = OverviewReport(Source(mart), settings)
    (listed, *_) = (row["principal"] for row in report.principals.top)
    places = {listed: None, "arn:aws:iam::111122223333:role/not-named": None, "arn:x": "key-arn:x"}
    gaps = report.table_of("gaps", [{"subject": subject, "place": place} for subject, place in places.items()])
    gaps.link_to(report.principals, "principal", "subject")
    assert [row["place"] for row in gaps.top] == [f"principal-{listed}", None, "key-arn:x"]
