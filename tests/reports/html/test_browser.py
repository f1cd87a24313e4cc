"""The report in a real browser: only our script runs, nothing leaves the machine, and the script works."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.browser import browser
from models.settings import MailSettings, Settings
from reports.html.publication import publish
from reports.html.registry import REPORTS
from reports.html.summary import summary
from reports.html.tables import packed
from reports.notify.message import compose
from reports.notify.trend import TrendPoint
from tests.reports.html.conftest import INVOICES, report_of
from tests.reports.html.page import Node, read
from tests.reports.sample_ledger import SHOP

pytestmark = pytest.mark.skipif(
    os.environ.get("KMSLEDGER_NO_BROWSER") == "1", reason="KMSLEDGER_NO_BROWSER=1: no browser on this machine"
)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--proxy-bypass-list=<-loopback>",
    "--window-size=1280,1000",
    "--virtual-time-budget=3000",
    "--enable-logging=stderr",
)


OF_THE_BROWSER = re.compile(r"(google|googleapis|gvt1|gstatic)\.com[:/ ]")
"""What Chromium asks for on its own, whatever page it shows; the sample organization names no such host."""


class Trap:
    """A proxy that never answers and records the requests of the page."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.console: list[str] = []
        """What the pages wrote to the browser's console: errors of scripts, and what the content policy refused."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                line = connection.recv(4096).split(b"\r\n")[0].decode(errors="replace")
            if not OF_THE_BROWSER.search(line):
                self.requests.append(line)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    """The browser's only connection to the network."""
    made = Trap()
    yield made
    made.close()


Open = Callable[..., Node]


@pytest.fixture
def browse(trap: Trap, tmp_path: Path) -> Open:
    """Open a file in Chromium; the page as it is after its script ran."""
    chromium = browser()
    assert chromium, "these tests need chromium; KMSLEDGER_NO_BROWSER=1 runs the others"

    def browse(path: Path, fragment: str = "", *flags: str) -> Node:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [
            chromium,
            *FLAGS,
            *flags,
            profile,
            f"--proxy-server=http://{trap.address}",
            "--dump-dom",
            path.as_uri() + fragment,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        trap.console += [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return read(done.stdout)

    return browse


WIDTHS = (1920, 1280, 1100, 820, 390)
HARNESS = """<!DOCTYPE html><html lang="en"><head><title>widths</title></head><body><pre id="result"></pre><script>
const results = [];
addEventListener("message", ({ data }) => {
  results.push(data);
  document.getElementById("result").textContent = JSON.stringify(results);
});
</script>%s</body></html>"""
REACHABLE = """<script>addEventListener("load", () => setTimeout(() => {
  const clipped = new Set();
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const table of document.querySelectorAll("table")) {
    for (const cell of [table.rows[0].cells[0], [...table.rows[0].cells].at(-1)]) {
      // Scrolls everything that a reader can scroll; what is still outside cannot be reached.
      cell.scrollIntoView({ block: "center", inline: "nearest" });
      const { left, right } = cell.getBoundingClientRect();
      if (left === right) continue;  // not displayed at this width
      let [from, to] = [0, innerWidth];
      for (let parent = table.parentElement; parent; parent = parent.parentElement) {
        const style = getComputedStyle(parent);
        if (style.overflowX === "visible" && style.contentVisibility !== "auto") continue;
        const box = parent.getBoundingClientRect();
        [from, to] = [Math.max(from, box.left), Math.min(to, box.right)];
      }
      if (right - left < to - from && (left < from - 1 || right > to + 1)) clipped.add(table.dataset.name ?? table.className);
    }
  }
  scrollTo(0, 0);
  const wide = document.documentElement.scrollWidth > innerWidth;
  parent.postMessage({ width: innerWidth, clipped: [...clipped], wide, tables: document.querySelectorAll("table").length }, "*");
}, 300))</script></body>"""


AXE = """<script>AXE</script><script>addEventListener("load", () => setTimeout(async () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const rule = RULE;
  const { passes, violations } = await axe.run({ resultTypes: ["violations"], ...(rule && { runOnly: [rule] }) });
  const found = violations.flatMap(({ id, nodes }) => nodes.slice(0, 3).map(({ html }) => `${id}: ${html.slice(0, 200)}`));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  parent.postMessage({ width: innerWidth, dark, passed: passes.map(({ id }) => id), found }, "*");
}, 300))</script></body>"""
SCHEMES = {"light": "--blink-settings=preferredColorScheme=1", "dark": "--blink-settings=preferredColorScheme=0"}


def with_script(path: Path, to: Path, script: str) -> Path:
    """Write a copy of a report with a script at its end; the report's content policy would block it."""
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
    assert html.count("</body>") == 1
    to.write_text(html.replace("</body>", script), encoding="utf-8")
    return to


def at_widths(
    browse: Open, path: Path, folder: Path, script: str, *flags: str, widths: Sequence[int] = WIDTHS
) -> dict[int, dict[str, Any]]:
    """The messages of a script in the page, in frames of these widths; the page's policy would block the script."""
    with_script(path, folder / "page.html", script)
    frames = "".join(
        f'<iframe src="page.html" width="{width}" height="900" frameborder="0"></iframe>' for width in widths
    )
    (folder / "widths.html").write_text(HARNESS % frames, encoding="utf-8")
    results = json.loads(browse(folder / "widths.html", "", *flags).one("pre", id="result").text)
    return {result["width"]: result for result in results}


def structure(node: Node) -> Any:
    """An element as a value: tag, attributes, and children without white space between them."""
    children = [structure(child) if isinstance(child, Node) else " ".join(child.split()) for child in node.children]
    attributes = {
        name: value.replace(" 1 0%", "").rstrip(";").replace(": ", ":") for name, value in node.attributes.items()
    }
    return (
        node.tag,
        {name: value for name, value in attributes.items() if value},
        [child for child in children if child],
    )


def test_nothing_hostile_runs_and_nothing_is_loaded(browse: Open, path: Path, trap: Trap, page: Node) -> None:
    """Scripts and images in names from AWS are text in the browser as well, and no request leaves it."""
    dom = browse(path, "")
    assert dom.one("head").one("title").text == page.one("head").one("title").text == "KMS ledger: overview, run 3"
    assert not list(dom.all("img"))
    assert len(list(dom.all("script"))) == 1
    assert trap.requests == trap.console == []


def test_the_compliance_report_is_as_harmless(browse: Open, settings: Settings, tmp_path: Path, trap: Trap) -> None:
    """The report for auditors makes no request and logs no console error, and a link can sort its tables."""
    dom = browse(report_of(settings, tmp_path / "out", "compliance"), "#frameworks&sort=-controls")
    assert dom.one("head").one("title").text == "KMS ledger: compliance, run 3"
    assert not list(dom.all("img"))
    assert trap.requests == trap.console == []
    controls = [int(row.cells[2]) for row in dom.rows("frameworks")]
    assert controls == sorted(controls, reverse=True)
    assert controls[0] > controls[-1]


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("overview", None),
        ("compliance", None),
        *(
            pytest.param(*subject, marks=pytest.mark.deep)
            for subject in (("account", SHOP), ("vendor", "Vendor <b>Inc</b>"), ("key", INVOICES), ("changes", None))
        ),
    ],
)
def test_every_column_can_be_reached(
    browse: Open, settings: Settings, tmp_path: Path, name: str, subject: str | None
) -> None:
    """From 390 to 1920 pixels, each table fits or scrolls, and the page itself never scrolls sideways."""
    found = at_widths(browse, report_of(settings, tmp_path / "out", name, subject), tmp_path, REACHABLE)
    assert sorted(found) == sorted(WIDTHS)
    assert all(result["tables"] > 0 for result in found.values())
    assert {width: result["clipped"] for width, result in found.items() if result["clipped"]} == {}
    assert [width for width, result in found.items() if result["wide"]] == []


def axe(rule: str = "null") -> str:
    """A script that runs axe-core in the page, for `at_widths`: all rules, or only one (a JavaScript text)."""
    text = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    assert "</script" not in text
    return AXE.replace("RULE", rule, 1).replace("AXE", text, 1)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "subject"),
    [
        *((report.name, None) for report in REPORTS),
        *(
            ("changes", None),
            ("vendor", "Vendor <b>Inc</b>"),
            ("key", INVOICES),
        ),  # an account has sections of the overview
    ],
)
def test_nobody_is_excluded(browse: Open, settings: Settings, tmp_path: Path, name: str, subject: str | None) -> None:
    """axe-core finds no violation in any report, on a desktop and a phone, with all details open; nor weak colors in the dark."""
    few = settings.report.model_copy(
        update={"list_limit": 10, "findings_limit": 2, "frameworks": ("cis-aws-7.0.0",)}
    )  # axe needs seconds for many rows
    path = report_of(settings.model_copy(update={"report": few}), tmp_path / "out", name, subject)
    found = at_widths(browse, path, tmp_path, axe(), SCHEMES["light"], widths=(1280, 390))
    found[0] = at_widths(browse, path, tmp_path, axe("'color-contrast'"), SCHEMES["dark"], widths=(1280,))[1280]
    assert {width: result["found"] for width, result in found.items()} == {1280: [], 390: [], 0: []}
    assert {width: result["dark"] for width, result in found.items()} == {1280: False, 390: False, 0: True}
    assert all("color-contrast" in result["passed"] for result in found.values())
    assert {"label", "button-name", "table-duplicate-name"} <= {*found[390]["passed"]}


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["mail", "index"])
def test_mail_and_index_exclude_nobody(
    browse: Open, settings: Settings, mart: duckdb.DuckDBPyConnection, tmp_path: Path, kind: str
) -> None:
    """axe-core finds no violation in the mail and in the index of published reports; neither page scrolls sideways."""
    page = tmp_path / "public" / "index.html"
    if kind == "index":
        publish([report_of(settings).with_name("kmsledger-overview-run3.html")], page.parent, settings)
    else:
        mail = MailSettings.model_validate({"host": "h", "sender": "a@example.org", "recipients": ["b@example.org"]})
        trend = (TrendPoint(2, 5, 1), TrendPoint(3, 4, 2))
        content = replace(summary(mart, settings), report_url="https://reports.example.org/r.html", trend=trend)
        body = compose(content, mail, recipient="b@example.org").get_body(("html",))
        assert body is not None
        page = tmp_path / "mail.html"
        page.write_text(body.get_content(), encoding="utf-8")
    found = at_widths(browse, page, tmp_path, axe(), SCHEMES["light"], widths=(1280, 390))
    assert {width: result["found"] for width, result in found.items()} == {1280: [], 390: []}
    assert all("color-contrast" in result["passed"] for result in found.values())
    reached = at_widths(browse, page, tmp_path, REACHABLE, widths=(1280, 390))
    assert [width for width, result in reached.items() if result["wide"]] == []


@pytest.mark.deep
def test_axe_would_find_a_violation(browse: Open, tmp_path: Path) -> None:
    """axe-core reports an image without a text, so the test above is conclusive."""
    bare = tmp_path / "bare.html"
    head = "<!DOCTYPE html><html lang='en'><head><title>t</title></head>"
    bare.write_text(f"{head}<body><main><h1>t</h1><img src='data:,'></main></body></html>", encoding="utf-8")
    (result,) = at_widths(browse, bare, tmp_path, axe(), widths=(390,)).values()
    assert [violation.split(":")[0] for violation in result["found"]] == ["image-alt"]


def test_the_trap_would_catch_a_request(browse: Open, tmp_path: Path, trap: Trap) -> None:
    """The trap records the image request of a page without our content policy, so the tests above are conclusive."""
    bare = tmp_path / "bare.html"
    bare.write_text(
        "<!DOCTYPE html><html><head><title>t</title></head><body><img src='http://probe.example/x'></body></html>"
    )
    browse(bare, "")
    assert any("probe.example" in line for line in trap.requests)


def test_only_our_script_may_run(browse: Open, path: Path, tmp_path: Path, trap: Trap) -> None:
    """If the page contained an attacker's script, the content policy would block and report it."""
    attacked = tmp_path / "attacked.html"
    attack = "<script>document.title='owned'</script><style onload=\"document.title='owned'\"></style></body>"
    attacked.write_text(path.read_text(encoding="utf-8").replace("</body>", attack), encoding="utf-8")
    assert browse(attacked, "").one("head").one("title").text == "KMS ledger: overview, run 3"
    assert any("Content Security Policy" in line for line in trap.console)


def test_the_first_rows_are_there_without_the_script(path: Path, page: Node, tmp_path: Path, browse: Open) -> None:
    """A browser that does not run the script shows the first rows of each table, and says where all of them are."""
    mute = tmp_path / "mute.html"
    mute.write_text(path.read_text(encoding="utf-8").replace('"use strict"', '"use nothing"'), encoding="utf-8")
    dom = browse(mute, "#keys&filter=invoices")
    assert [row.cells for row in dom.rows("keys")] == [row.cells for row in page.rows("keys")]
    assert not list(dom.all("button"))
    rules = dom.one("div", data_name="rules")
    assert len(dom.rows("rules")) == 25 < len(page.data("rules"))
    (note,) = rules.all("p", class_="note")
    assert note.text.startswith(f"The first 25 of {len(page.data('rules'))} are shown here")
    assert 'Every row: kmsledger sql "SELECT rule_id' in note.text


def test_the_script_renders_rows_as_the_file_does(browse: Open, path: Path, page: Node, tmp_path: Path) -> None:
    """The first rows, which are HTML in the file, and the same rows as the script builds them, with details, are equal."""
    script = """<script>addEventListener("load", () => setTimeout(() => {
        for (const details of document.querySelectorAll(".more details")) details.open = true;
    }, 1500))</script></body>"""
    dom = browse(with_script(path, tmp_path / "all.html", script), "#filter=%20")
    names = [block.attributes["data-name"] for block in page.all("div", class_="table")]
    assert len(names) > 10
    for name in names:
        rendered, written = dom.rows(name), page.rows(name)
        assert len(rendered) == len(written)
        for row, expected in zip(rendered, written, strict=True):
            for details in row.node.all("details"):
                details.attributes.pop("open")
            assert structure(row.node) == structure(expected.node), name


def test_a_link_leads_to_a_row_on_a_later_page(browse: Open, path: Path, page: Node) -> None:
    """The script shows the page of the table that has the row, and marks the row."""
    *_, last = page.data("rules")
    assert not list(page.all("tbody", id=f"rule-{last['rule_id']}"))
    dom = browse(path, f"#rule-{last['rule_id']}")
    assert "target" in dom.one("tbody", id=f"rule-{last['rule_id']}").classes
    missing = browse(path, "#key-arn:aws:kms:eu-west-1:111122223333:key/none")
    assert (
        "arn:aws:kms:eu-west-1:111122223333:key/none is not among the keys in this file"
        in missing.one("section", id="keys").one("div", class_="tools").text
    )


def test_facets_narrow_a_table(browse: Open, path: Path, page: Node) -> None:
    """A link selects values of facets; each facet offers its values with their numbers; an unknown facet is ignored."""
    dom = browse(path, "#findings&severity=high&status=fail&constructor=x")
    expected = [row for row in page.data("findings") if (row["severity"], row["status"]) == ("high", "fail")]
    assert len(dom.rows("findings")) == min(25, len(expected))
    assert all(row.cells[0] == "high" and row.cells[1].startswith("Fail") for row in dom.rows("findings"))
    tools = dom.one("div", data_name="findings").one("div", class_="tools")
    assert f"{len(expected)} of {len(page.data('findings'))} findings match" in tools.text
    (status,) = tools.all("select", data_field="status")
    unknown = sum(row["status"] == "unknown" for row in page.data("findings"))
    assert f"Unknown ({unknown})" in [option.text for option in status.all("option")]
    unrotated = browse(path, "#keys&rotation=-")
    missing = [row["key_arn"] for row in page.data("keys") if row["rotation"] is None]
    assert len(unrotated.rows("keys")) == len(missing) > 0
    (rotation,) = unrotated.one("div", data_name="keys").all("select", data_field="rotation")
    assert f"unknown ({len(missing)})" in [option.text for option in rotation.all("option")]


def test_rows_are_saved_as_csv(browse: Open, path: Path, page: Node, tmp_path: Path) -> None:
    """The file has every matching row and field; a value that a spreadsheet would run as a formula is quoted."""
    script = """<script>
    URL.createObjectURL = (blob) => { blob.text().then((text) => {
        document.body.append(Object.assign(document.createElement("pre"), { id: "csv", textContent: text }));
    }); return ""; };
    HTMLAnchorElement.prototype.click = () => {};
    addEventListener("load", () => {
        const buttons = [...document.querySelectorAll("[data-name=keys] .tools button")];
        buttons.find((button) => button.textContent === "CSV").click();
    });</script></body>"""
    formula = '=HYPERLINK("http://probe.example")'
    changed = tmp_path / "changed.html"
    rows = [list(row.values()) for row in page.data("keys")]
    rows[0][2] = formula
    packed_rows = packed(rows)
    original = re.compile(r'(data-name="keys">.*?<template class="rows">)[^<]*', re.DOTALL)
    changed.write_text(
        original.sub(lambda match: match[1] + packed_rows, path.read_text(encoding="utf-8")), encoding="utf-8"
    )
    dom = browse(with_script(changed, tmp_path / "csv.html", script), "")
    (text,) = [child for child in dom.one("pre", id="csv").children if isinstance(child, str)]
    lines = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert len(lines) == len(rows)
    assert lines[0]["name"] == f"'{formula}"
    assert [line["key_arn"] for line in lines] == [row["key_arn"] for row in page.data("keys")]


def test_a_link_filters_one_table(browse: Open, path: Path, page: Node) -> None:
    """A matching row has all words, in any letter case, also in collapsed details; the number of matches is shown."""
    dom = browse(path, "#keys&filter=EU-WEST-1%20invoices")
    rows = dom.rows("keys")
    assert len(rows) == 1
    assert rows[0].cells[0].startswith("alias/invoices")
    total = len(page.rows("keys"))
    assert f"1 of {total} keys match" in dom.one("section", id="keys").text
    assert len(dom.rows("gaps")) == len(page.rows("gaps"))


def test_a_link_filters_all_tables(browse: Open, path: Path, page: Node) -> None:
    """A filter without a table applies to every table; the matches are counted, and blocks without a match are hidden."""
    dom = browse(path, "#filter=alias/lake")
    assert len(dom.rows("keys")) == 1
    assert len(dom.rows("changes")) == 1
    assert not dom.rows("gaps")
    assert dom.one("p", id="found").text == f"{sum(len(dom.rows(name)) for name in tables_of(page))} rows match"
    hidden = {section.attributes["id"] for section in dom.all("section") if "empty" in section.classes}
    assert "coverage" in hidden
    assert not {"keys", "changes"} & hidden


def tables_of(page: Node) -> list[str]:
    return [block.attributes["data-name"] for block in page.all("div", class_="table")]


def test_a_link_sorts_by_number_with_the_unknown_last(browse: Open, path: Path) -> None:
    """Numbers sort as numbers; unknown values come last in both directions; the header shows the order."""
    for order, direction in (("grants", "ascending"), ("-grants", "descending")):
        dom = browse(path, f"#keys&sort={order}")
        grants = [row.cells[-2] for row in dom.rows("keys")]
        known = [int(cell) for cell in grants if cell != "unknown"]
        assert known == sorted(known, reverse=order.startswith("-"))
        assert grants[len(known) :] == ["unknown"] * (len(grants) - len(known))
        assert len(known) < len(grants)
        (head,) = [head for head in dom.all("th") if "aria-sort" in head.attributes]
        assert (head.attributes["aria-sort"], head.attributes["data-c"]) == (direction, "grants")


def test_the_controls_work_from_the_keyboard(browse: Open, path: Path) -> None:
    """Every sortable header contains a button, every filter has a label, and every area that scrolls can have the focus."""
    dom = browse(path, "")
    for head in dom.all("th"):
        if "data-c" in head.attributes:
            assert head.one("button").attributes["type"] == "button"
    labels = {label.attributes["for"] for label in dom.all("label")}
    for field in dom.all("input"):
        assert field.attributes.get("aria-label") or field.attributes.get("id") in labels
    assert "hidden" not in dom.one("div", class_="find").attributes
    for block in dom.all("div", class_="scroll"):
        assert (block.attributes["tabindex"], block.attributes["role"]) == ("0", "region")
        assert block.attributes["aria-label"]


def test_hostile_links_do_nothing(browse: Open, path: Path, page: Node) -> None:
    """A malicious link leaves the page unchanged."""
    dom = browse(path, "#keys&sort=__proto__&filter=%3Cimg%20src=x%20onerror=alert(1)%3E")
    assert not list(dom.all("img"))
    (account,) = {row["account"] for row in page.data("keys") if "<img" in row["account"]}
    assert len(dom.rows("keys")) == sum(row["account"] == account for row in page.data("keys"))
