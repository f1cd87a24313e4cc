"""The compliance report: every control with state and evidence, every count as in the mart, hostile text is inert."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from models.settings import Settings
from reports.html.compliance_report import LISTED
from reports.html.labels import CONTROL_STATES as STATES
from reports.html.summary import summary
from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.framework_loader import UnknownFrameworkError, load_frameworks
from tests.reports.html.conftest import INJECTED, Make, report_of, world_of
from tests.reports.html.page import Node, read
from tests.reports.html.test_overview_report import number, row_with, test_every_link_leads_somewhere
from tests.reports.sample_ledger import DATA, IRELAND, SHOP, second_run

REASON = "</td><script>document.title='owned'</script> until the audit"
WAIVERS = f"""
- {{id: W-1, rule: key-rotation, resource: "*", account: "{SHOP}", reason: "{REASON}", ticket: "<b>T-7</b>", owner: "Ann & Co",
   expires: 2030-01-01}}
- {{id: W-2, rule: key-rotation, resource: "*", account: "{DATA}", reason: over, owner: Bob, expires: 2020-01-01}}
"""


@pytest.fixture(scope="module")
def evaluated(make_settings: Make) -> Settings:
    """The sample organization after two evaluated runs, with waivers and a key with a hostile alias."""
    made = make_settings(rules={"waivers": ["waivers.yaml"]})
    made.rules.waivers[0].write_text(WAIVERS, encoding="utf-8")
    world = world_of(made)
    hostile = world.key(DATA, IRELAND, "00000000-0000-4000-8000-0000000000aa", rotation="disabled")
    world.alias(INJECTED, hostile)
    world.crawl()
    refresh(made)
    second_run(world)
    world.crawl()
    refresh(made)
    return made


@pytest.fixture(scope="module")
def audit_path(evaluated: Settings) -> Path:
    """The file of its compliance report, with every framework."""
    frameworks = tuple(framework.framework_id for framework in load_frameworks())
    report = evaluated.report.model_copy(update={"frameworks": frameworks})
    return report_of(evaluated.model_copy(update={"report": report}), name="compliance")


@pytest.fixture(scope="module")
def audit(audit_path: Path) -> Node:
    """Its compliance report."""
    return read(audit_path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def overview(evaluated: Settings) -> Node:
    """Its overview report."""
    return read(report_of(evaluated).read_text(encoding="utf-8"))


def query_rows(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with connect(settings.report.mart) as mart:
        return mart.execute(query).fetchall()


def test_every_control_is_there_with_its_state_and_counts(audit: Node, evaluated: Settings) -> None:
    """Each control of each framework has the state and counts of the view."""
    for framework in load_frameworks():
        section = audit.one("section", id=f"f-{framework.framework_id}")
        controls = list(section.all("div", class_="control"))
        rows = query_rows(
            evaluated,
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


def test_the_summary_counts_controls_by_state(audit: Node, evaluated: Settings) -> None:
    """The row of each framework is the row of the view, and its bar says the same in words."""
    rows = audit.rows("frameworks")
    found = query_rows(evaluated, "SELECT framework, controls, failed, unknown, passed, not_applicable FROM frameworks")
    assert len(rows) == len(found)
    for name, controls, *counts in found:
        row = next(one for one in rows if one.cells[0].endswith(str(name)))
        assert [number(cell) for cell in row.cells[2:]] == [controls, *counts]
        (label,) = [bar.attributes["aria-label"] for bar in row.node.all("span", class_="bar")]
        assert all(
            (f"{STATES[state]} {count}" in label) == bool(count) for state, count in zip(STATES, counts, strict=True)
        )


def test_a_control_lists_failed_and_unknown_resources(audit: Node) -> None:
    """Both lists have a heading with their number, and resources with reason, owner and date."""
    section = audit.one("section", id="f-cis-aws-3.0.0")
    (control,) = [one for one in section.all("div", class_="control") if " 3.6 " in one.one("h3").text]
    headings = [head.text for head in control.own("h4")]
    assert [head.split(":")[0] for head in headings] == ["Failing", "Unknown", "Active waivers"]
    failing, unknown = control.all("table", class_="evidence")
    for heading, table in zip(headings, (failing, unknown), strict=False):
        lines = table.one("tbody").own("tr")
        assert min(number(heading.split(": ")[1].split()[0]), LISTED) == len(lines)
        assert all(line.own("td")[2].text and line.own("td")[4].text for line in lines)


def test_the_state_is_never_met_while_something_is_unknown(audit: Node) -> None:
    """A control under which anything fails or is unknown says so, whatever else passes."""
    for control in audit.all("div", class_="control"):
        lines = control.one("table", class_="counts-of").one("tbody").own("tr")
        fail, unknown = (number(cell.text) for cell in lines[-1].own("td")[1:3])
        heading = control.one("h3").text
        assert heading.startswith("Failed") == bool(fail)
        assert heading.startswith("Unknown") == bool(unknown and not fail)


def test_waivers_have_reason_owner_ticket_and_expiry(audit: Node, evaluated: Settings) -> None:
    """A control lists active waivers, the register all of them; hostile text in them is inert."""
    section = audit.one("section", id="f-cis-aws-3.0.0")
    (control,) = [one for one in section.all("div", class_="control") if " 3.6 " in one.one("h3").text]
    (line,) = [item.text for item in control.all("li")]
    ((waived,),) = query_rows(evaluated, "SELECT count(*) FROM findings WHERE status = 'waived'")
    number_waived = f"{waived} finding{'' if waived == 1 else 's'}"
    assert line == (
        f"W-1 (key-rotation), owner Ann & Co, ticket <b>T-7</b>, until 2030-01-01, waives {number_waived}: {REASON}"
    )
    register = audit.rows("waivers")
    assert len(register) == 2
    assert row_with(register, "W-2").cells[6] == "2020-01-01 expired"


def test_every_rule_in_force_is_evidence(audit: Node, evaluated: Settings) -> None:
    """The catalogue has each rule once, with its counts, its parameters and a trend of the evaluated runs."""
    catalogue = audit.one("section", id="catalogue")
    found = query_rows(
        evaluated,
        "SELECT r.rule_id, coalesce(sum(failed), 0), coalesce(sum(unknown), 0), coalesce(sum(waived), 0), "
        "coalesce(sum(passed), 0), coalesce(sum(not_applicable), 0) "
        "FROM rules r LEFT JOIN rule_results c ON c.rule_id = r.rule_id GROUP BY ALL",
    )
    bodies = {body.attributes["id"]: body for body in catalogue.all("tbody")}
    assert set(bodies) == {f"rule-{rule}" for rule, *_ in found}
    for rule, *counts in found:
        line, ask = bodies[f"rule-{rule}"].own("tr")
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


def test_the_current_version_of_each_framework_is_the_default(evaluated: Settings, tmp_path: Path) -> None:
    """Of several versions only the latest is shown; the others are named, with the setting that selects them."""
    page = read(report_of(evaluated, tmp_path, "compliance").read_text(encoding="utf-8"))
    sections = {one.attributes["id"] for one in page.all("section")}
    assert {"f-cis-aws-7.0.0", "f-pci-dss-4.0.1", "f-nist-800-53-r5", "f-nist-800-171-r2"} <= sections
    assert not {"f-cis-aws-3.0.0", "f-pci-dss-3.2.1"} & sections
    (note,) = [note.text for note in page.one("section", id="summary").all("p", class_="note")]
    assert "CIS AWS Foundations Benchmark 3.0.0 ( cis-aws-3.0.0 )" in note.replace("(cis", "( cis").replace("0)", "0 )")
    assert "The setting report.frameworks selects the frameworks" in note
    test_every_link_leads_somewhere(page)


def test_every_finding_is_in_the_report(audit: Node, evaluated: Settings) -> None:
    """A control links to all of its findings, names the command for them, and the command for those that pass."""
    ((total,),) = query_rows(evaluated, "SELECT count(*) FROM findings WHERE status IN ('fail', 'unknown', 'waived')")
    assert len(audit.data("findings")) == total
    notes = [note for note in audit.all("p", class_="note") if " more of " in note.text]
    assert notes
    for note in notes:
        left, count = re.findall(r"([\d,]+) more of ([\d,]+):", note.text)[0]
        values = parse_qs(note.one("a").attributes["href"].partition("&")[2])
        rows = [
            row
            for row in audit.data("findings")
            if row["rule_id"] in values["rule_id"] and row["status"] in values["status"]
        ]
        assert len(rows) == number(count) == number(left) + LISTED
        query = shlex.split(note.one("code").text)[2]
        assert len(query_rows(evaluated, query)) == len(rows)
    assert "passes included: kmsledger rules run" in audit.one("section", id="f-cis-aws-7.0.0").text


def test_the_settings_choose_frameworks(evaluated: Settings, tmp_path: Path) -> None:
    """Only the selected frameworks, in that order; an unknown framework is an error in the settings."""
    chosen = evaluated.report.model_copy(update={"frameworks": ("pci-dss-4.0.1", "hipaa")})
    page = read(
        report_of(evaluated.model_copy(update={"report": chosen}), tmp_path, "compliance").read_text(encoding="utf-8")
    )
    sections = [one.attributes["id"] for one in page.all("section") if one.attributes["id"].startswith("f-")]
    assert sections == ["f-pci-dss-4.0.1", "f-hipaa"]
    wrong = evaluated.report.model_copy(update={"frameworks": ("cis",)})
    with pytest.raises(UnknownFrameworkError, match="no framework is named 'cis': choose from aws-fsbp, ") as error:
        report_of(evaluated.model_copy(update={"report": wrong}), tmp_path, "compliance")
    assert error.value.exit_code == 2


def test_status_changes_come_first(overview: Node, evaluated: Settings) -> None:
    """New, newly unknown and resolved findings of the latest run, with the numbers of the mart."""
    at = "(SELECT max(started_at) FROM runs)"
    new, unknown, resolved = (
        query_rows(evaluated, query)[0][0]
        for query in (
            f"SELECT count(*) FROM findings WHERE status = 'fail' AND since = {at}",
            f"SELECT count(*) FROM findings WHERE status = 'unknown' AND since = {at}",
            f"SELECT count(*) FROM finding_lifecycle WHERE resolved_at = {at}",
        )
    )
    changes = [row["change"] for row in overview.data("findings")]
    assert new
    assert sum(change in ("new", "reopened", "returned") for change in changes) == new
    assert changes.count("unknown") == unknown
    assert len(overview.data("resolved")) == resolved
    section = overview.one("section", id="findings")
    assert f"{new} new" in section.one("p", class_="say").text
    for severity in ("critical", "high"):
        rows = [row for row in overview.data("findings") if (row["severity"], row["status"]) == (severity, "fail")]
        is_old = [row["change"] is None for row in rows]
        assert is_old == sorted(is_old)


def test_the_mail_has_the_most_severe_new_findings(overview: Node, evaluated: Settings) -> None:
    """The most severe new findings that belong to no situation of the mail, with the status changes that the report shows."""
    with connect(evaluated.report.mart) as mart:
        mail = summary(mart, evaluated)
        first = "FROM situations ORDER BY deadline NULLS LAST, internal.severity_rank(severity), affected DESC"
        listed_first = f"SELECT situation_id FROM ({first}, situation_id LIMIT 10)"
        query = f"SELECT resource_arn, title FROM situation_findings WHERE situation_id IN ({listed_first})"
        in_situations = set(mart.execute(query).fetchall())
    assert mail.status_changes
    assert (
        f"{mail.status_changes} since the last run."
        == overview.one("section", id="findings").one("p", class_="say").text
    )
    listed = [(item.severity, item.where.rpartition(" · ")[2]) for item in mail.new_findings]
    assert 0 < len(listed) <= 3
    assert len({arn for _, arn in listed}) == len(listed)
    order = ["critical", "high", "medium", "low", "info"]
    rows = [row for row in overview.data("findings") if row["change"] == "new"]
    others = [row for row in rows if (row["resource_arn"], row["title"]) not in in_situations]
    assert listed[0][0] == min((row["severity"] for row in others), key=order.index)
    assert mail.new_findings_total >= len(rows)


def test_every_rule_has_its_row(overview: Node, evaluated: Settings) -> None:
    """Each enabled rule is a row with its counts, its reason and its fix; rules that fail come first, by severity."""
    rows = overview.data("rules")
    ((rules,),) = query_rows(evaluated, "SELECT count(*) FROM rules")
    assert len(rows) == rules
    order = ["critical", "high", "medium", "low", "info"]
    ranks = [(row["fail"] == 0, row["fail"] == 0 and row["unknown"] == 0, order.index(row["severity"])) for row in rows]
    assert ranks == sorted(ranks)
    for row in rows:
        assert {"Why", "Fix"} <= {label for label, _ in row["facts"]}
        found = [one for one in overview.data("findings") if one["rule_id"] == row["rule_id"]]
        assert len(found) == row["fail"] + row["unknown"] + row["waived"]


def test_the_limit_applies_per_rule_and_status(evaluated: Settings, tmp_path: Path) -> None:
    """Many failures do not hide unknown findings; the note has the number of findings that are not in the file."""
    limited = evaluated.report.model_copy(update={"findings_limit": 3})
    page = read(report_of(evaluated.model_copy(update={"report": limited}), tmp_path).read_text(encoding="utf-8"))
    rows = page.data("findings")
    amounts = Counter((row["rule_id"], row["status"]) for row in rows)
    expected = {
        (rule, status): min(count, 3)
        for rule, status, count in query_rows(
            evaluated,
            "SELECT rule_id, status, count(*) FROM findings WHERE status IN ('fail', 'unknown', 'waived') GROUP BY ALL",
        )
        if isinstance(count, int)
    }
    assert amounts == expected
    assert 3 in amounts.values()
    ((total,),) = query_rows(evaluated, "SELECT count(*) FROM findings WHERE status IN ('fail', 'unknown', 'waived')")
    notes = [note.text for note in page.one("section", id="findings").all("p", class_="cut")]
    assert any(f"{int(str(total)) - len(rows):,} of {total:,} findings are not in this file" in note for note in notes)
