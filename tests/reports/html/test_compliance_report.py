"""The report for auditors: every control with its state and its evidence, every count that of the mart, nothing hostile lives."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from models.settings import Settings
from reports.html.charts import TrendPoint, columns
from reports.html.compliance_report import STATES
from reports.html.summary import summary
from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.framework_loader import UnknownFrameworkError, load_frameworks
from tests.reports.html.conftest import INJECTED, Make, report_of, world_of
from tests.reports.html.page import Node, read
from tests.reports.html.test_overview_report import number, row_with, test_every_link_leads_somewhere
from tests.reports.sample_ledger import DATA, IRELAND, SHOP, second_night

REASON = "</td><script>document.title='owned'</script> until the audit"
WAIVERS = f"""
- {{id: W-1, rule: key-rotation, resource: "*", account: "{SHOP}", reason: "{REASON}", ticket: "<b>T-7</b>", owner: "Ann & Co",
   expires: 2030-01-01}}
- {{id: W-2, rule: key-rotation, resource: "*", account: "{DATA}", reason: over, owner: Bob, expires: 2020-01-01}}
"""


@pytest.fixture(scope="module")
def judged(make_settings: Make) -> Settings:
    """The sample organization after two nights that were both judged, with waivers and a key of a hostile name."""
    made = make_settings(rules={"waivers": ["waivers.yaml"]}, report={"findings_limit": 3})
    made.rules.waivers[0].write_text(WAIVERS, encoding="utf-8")
    world = world_of(made)
    hostile = world.key(DATA, IRELAND, "00000000-0000-4000-8000-0000000000aa", rotation="disabled")
    world.alias(INJECTED, hostile)
    world.crawl()
    refresh(made)
    second_night(world)
    world.crawl()
    refresh(made)
    return made


@pytest.fixture(scope="module")
def audit_path(judged: Settings) -> Path:
    """The file of its compliance report."""
    return report_of(judged, name="compliance")


@pytest.fixture(scope="module")
def audit(audit_path: Path) -> Node:
    """Its compliance report."""
    return read(audit_path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def estate(judged: Settings) -> Node:
    """Its estate report."""
    return read(report_of(judged).read_text(encoding="utf-8"))


def asked(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with connect(settings.report.mart) as mart:
        return mart.execute(query).fetchall()


def test_every_control_is_there_with_its_state_and_counts(audit: Node, judged: Settings) -> None:
    """Each control of each framework has the state and the counts that the mart's view has."""
    for framework in load_frameworks():
        section = audit.one("section", id=f"f-{framework.framework_id}")
        controls = list(section.all("div", class_="control"))
        rows = asked(
            judged,
            "SELECT control, title, status, failed, unknown, waived, passed, not_applicable, len(rules) FROM framework_controls "
            f"WHERE framework = '{framework.framework_id}'",
        )
        assert len(controls) == len(rows) == len(framework.controls)
        for control, (name, title, status, *counts, rules) in zip(controls, rows, strict=True):
            heading = control.one("h3").text
            assert heading.startswith(STATES[str(status)])
            assert heading.endswith(f"{name} {title}")
            table = control.one("table", class_="counts-of")
            lines = [[cell.text for cell in line.own("td")] for line in table.one("tbody").own("tr")]
            assert len(lines) == (rules if rules == 1 else int(str(rules)) + 1)
            assert [number(cell) for cell in lines[-1][1:]] == counts


def test_the_summary_counts_controls_by_state(audit: Node, judged: Settings) -> None:
    """The row of each framework is the row of the view, and its bar says the same in words."""
    rows = audit.rows("frameworks")
    found = asked(judged, "SELECT framework, controls, failed, unknown, passed, not_applicable FROM frameworks")
    assert len(rows) == len(found)
    for name, controls, *counts in found:
        row = next(one for one in rows if one.cells[0].endswith(str(name)))
        assert [number(cell) for cell in row.cells[2:]] == [controls, *counts]
        (label,) = [bar.attributes["aria-label"] for bar in row.node.all("svg")]
        assert all(
            (f"{STATES[state]} {count}" in label) == bool(count) for state, count in zip(STATES, counts, strict=True)
        )


def test_a_control_names_what_fails_and_what_is_unknown(audit: Node) -> None:
    """Both have a heading with their number, and a list of resources with reason, owner and date."""
    section = audit.one("section", id="f-cis-aws-3.0.0")
    (control,) = [one for one in section.all("div", class_="control") if " 3.6 " in one.one("h3").text]
    headings = [head.text for head in control.own("h4")]
    assert [head.split(":")[0] for head in headings] == ["Failing", "Unknown", "Active waivers"]
    failing, unknown = control.all("table", class_="evidence")
    for heading, table in zip(headings, (failing, unknown), strict=False):
        lines = table.one("tbody").own("tr")
        assert heading.split(": ")[1].split()[0] == str(len(lines))
        assert all(line.own("td")[2].text and line.own("td")[4].text for line in lines)


def test_the_state_is_never_met_while_something_is_unknown(audit: Node) -> None:
    """A control under which anything fails or is unknown says so, whatever else passes."""
    for control in audit.all("div", class_="control"):
        lines = control.one("table", class_="counts-of").one("tbody").own("tr")
        fail, unknown = (number(cell.text) for cell in lines[-1].own("td")[1:3])
        heading = control.one("h3").text
        assert heading.startswith("Failed") == bool(fail)
        assert heading.startswith("Unknown") == bool(unknown and not fail)


def test_waivers_are_told_with_reason_owner_ticket_and_end(audit: Node, judged: Settings) -> None:
    """Under the control only those in force, in the register all; hostile text in them is text."""
    section = audit.one("section", id="f-cis-aws-3.0.0")
    (control,) = [one for one in section.all("div", class_="control") if " 3.6 " in one.one("h3").text]
    (line,) = [item.text for item in control.all("li")]
    ((waived,),) = asked(judged, "SELECT count(*) FROM findings WHERE status = 'waived'")
    number_waived = f"{waived} finding{'' if waived == 1 else 's'}"
    assert line == (
        f"W-1 (key-rotation), owner Ann & Co, ticket <b>T-7</b>, until 2030-01-01, waives {number_waived}: {REASON}"
    )
    register = audit.rows("waivers")
    assert len(register) == 2
    assert row_with(register, "W-2").cells[6] == "2020-01-01expired"


def test_every_rule_in_force_is_evidence(audit: Node, judged: Settings) -> None:
    """The catalogue has each rule once, with its counts, its parameters and a trend of the nights that were judged."""
    catalogue = audit.one("section", id="catalogue")
    found = asked(
        judged,
        "SELECT r.rule_id, coalesce(sum(failed), 0), coalesce(sum(unknown), 0), coalesce(sum(waived), 0), coalesce(sum(passed), 0), "
        "coalesce(sum(not_applicable), 0) FROM rules r LEFT JOIN rule_results c ON c.rule_id = r.rule_id GROUP BY ALL",
    )
    bodies = {body.attributes["id"]: body for body in catalogue.all("tbody")}
    assert set(bodies) == {f"r-{rule}" for rule, *_ in found}
    for rule, *counts in found:
        line, ask = bodies[f"r-{rule}"].own("tr")
        assert [number(cell.text) for cell in line.own("td")[2:]] == counts
        assert len(ask.text) > 40
        for trend in line.all("svg", class_="trend"):
            label = trend.attributes["aria-label"]
            assert label.endswith(f"2026-11-21 {counts[0]:,} fail, {counts[1]:,} unknown")
    assert "Parameters: days = " in catalogue.text


def test_hostile_names_are_text(audit: Node, audit_path: Path) -> None:
    """Markup in names and in waivers is shown, and makes no element."""
    assert len(list(audit.all("script"))) == 1
    assert not list(audit.all("img"))
    assert not [name for node in audit.all() for name in node.attributes if name.startswith("on")]
    assert INJECTED in audit.text
    assert "<script>document.title" not in audit_path.read_text(encoding="utf-8")
    test_every_link_leads_somewhere(audit)


def test_nothing_needs_a_click(audit: Node) -> None:
    """Paper shows the same as the screen: nothing is folded."""
    assert not list(audit.all("details"))


def test_the_settings_choose_frameworks(judged: Settings, tmp_path: Path) -> None:
    """Only those, in that order; one that there is not is a mistake in the settings."""
    chosen = judged.report.model_copy(update={"frameworks": ("pci-dss-4.0.1", "hipaa")})
    page = read(
        report_of(judged.model_copy(update={"report": chosen}), tmp_path, "compliance").read_text(encoding="utf-8")
    )
    sections = [one.attributes["id"] for one in page.all("section") if one.attributes["id"].startswith("f-")]
    assert sections == ["f-pci-dss-4.0.1", "f-hipaa"]
    wrong = judged.report.model_copy(update={"frameworks": ("cis",)})
    with pytest.raises(UnknownFrameworkError, match="no framework 'cis'; there are: aws-fsbp, ") as error:
        report_of(judged.model_copy(update={"report": wrong}), tmp_path, "compliance")
    assert error.value.exit_code == 2


def test_what_turned_comes_first(estate: Node, judged: Settings) -> None:
    """New, newly unknown and resolved findings of the last night, each with its rule and reason, with the mart's numbers."""
    rows = estate.rows("status-changes")
    at = "(SELECT max(started_at) FROM runs)"
    new, unknown, resolved = (
        asked(judged, query)[0][0]
        for query in (
            f"SELECT count(*) FROM findings WHERE status = 'fail' AND since = {at}",
            f"SELECT count(*) FROM findings WHERE status = 'unknown' AND since = {at}",
            f"SELECT count(*) FROM finding_lifecycle WHERE resolved_at = {at}",
        )
    )
    said = [row.cells[0] for row in rows]
    assert new
    assert said.count("New") + said.count("Reopened") + said.count("Fails again") == min(int(str(new)), 25)
    assert said.count("Unknown now") == min(int(str(unknown)), 25)
    assert said.count("Resolved") == min(int(str(resolved)), 25)
    section = estate.one("section", id="findings")
    assert f"{new} new" in section.one("p", class_="say").text


def test_the_mail_tells_the_worst_new_ones(estate: Node, judged: Settings) -> None:
    """The gravest new findings, of different resources, with how the others turned; the page has the same."""
    with connect(judged.report.mart) as mart:
        made = summary(mart, judged)
    assert made.status_changes
    assert f"{made.status_changes} since the last run." == estate.one("section", id="findings").one("p", class_="say").text
    told = [(item.severity, item.where.rpartition(" · ")[2]) for item in made.new_findings]
    assert 0 < len(told) <= 3
    assert len({arn for _, arn in told}) == len(told)
    rows = [row for row in estate.rows("status-changes") if row.cells[0] == "New"]
    assert told[0][0] == rows[0].cells[1]
    assert made.new_findings_total >= len(rows)


def test_quiet_rules_are_one_line_a_family(estate: Node, judged: Settings) -> None:
    """Each rule is either told in full or counted in the line of its family."""
    listed = {row.cells[1].split()[-1] for row in estate.rows("rules")}
    quiet = estate.rows("passing-rules")
    assert len(quiet) == len({row.cells[0] for row in quiet})
    ((rules,),) = asked(judged, "SELECT count(*) FROM rules")
    assert len(listed) + sum(number(row.cells[1]) for row in quiet) == rules
    assert {
        block.attributes["id"]
        for block in estate.all("div", class_="rule")
        if block.attributes["id"].startswith("rule-")
    } == {f"rule-{rule}" for rule in listed}


def test_the_rules_that_fail_come_first_and_the_gravest_of_them(estate: Node) -> None:
    """Failing, then undecided; by severity within both."""
    order = ["critical", "high", "medium", "low", "info"]
    rows = [(number(row.cells[4]) == 0, order.index(row.cells[0])) for row in estate.rows("rules")]
    assert rows == sorted(rows)


def test_each_status_of_a_rule_is_cut_by_itself(estate: Node, judged: Settings) -> None:
    """Many failures do not hide what is unknown; the note says how many of each are left out."""
    ((rule, fail, unknown),) = asked(
        judged, "SELECT rule_id, sum(failed), sum(unknown) FROM rule_results GROUP BY ALL HAVING sum(unknown) > 0 "
        "ORDER BY sum(failed) DESC LIMIT 1",
    )  # fmt: skip
    fail, unknown = int(str(fail)), int(str(unknown))
    assert fail > 3
    rows = estate.rows(f"findings-{rule}")
    assert [row.cells[0].split()[0] for row in rows if "waived" not in row.cells[0]] == ["fail"] * 3 + [
        "unknown"
    ] * min(unknown, 3)
    block = estate.one("div", id=f"rule-{rule}")
    assert f"{fail - 3} of {fail} that fail" in block.one("p", class_="cut").text
    assert "How to fix it" in block.one("details").one("summary").text


def test_the_columns_of_a_trend_fit(mart: duckdb.DuckDBPyConnection) -> None:
    """Each night has a column in its order; the highest one fits; what is not zero can be seen."""
    assert mart
    at = mart.execute("SELECT max(started_at) FROM runs").fetchone()
    assert at
    shown = columns([TrendPoint(at[0], 1_000_000, 1), TrendPoint(at[0], 0, 0), TrendPoint(at[0], 3, 1_000_000)])
    assert [column.left for column in shown] == [0, 7.14, 14.29]
    assert all(column.fail + column.unknown <= 98 for column in shown)
    assert shown[0].unknown >= 8
    assert shown[1].fail == shown[1].unknown == 0
