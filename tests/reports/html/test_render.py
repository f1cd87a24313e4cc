"""Writing reports: the same mart gives the same bytes, and a file is complete or missing."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import UndefinedError

from models.output_file import OutputError
from models.settings import Settings
from reports.html import render
from reports.html.registry import REPORTS, UnknownReportError, find, write
from reports.mart.errors import MartError
from tests.reports.html.page import Node


def test_the_same_mart_makes_the_same_page(settings: Settings, tmp_path: Path) -> None:
    """No clock, no random order: two reports of one run are equal, and so are the two files of a report."""
    first = write(REPORTS, settings.report.mart, tmp_path / "a", settings)
    second = write(REPORTS, settings.report.mart, tmp_path / "b", settings)
    assert [path.name for path in first] == [
        "kmsledger-overview-run3.html",
        "kmsledger-overview.html",
        "kmsledger-compliance-run3.html",
        "kmsledger-compliance.html",
    ]
    for name in ("overview", "compliance"):
        assert len({path.read_bytes() for path in first + second if name in path.name}) == 1
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in first}


def test_a_report_that_breaks_leaves_the_old_one(tmp_path: Path) -> None:
    """An error while rendering leaves neither a partial page nor a temporary file."""
    path = tmp_path / "kmsledger-overview.html"
    path.write_text("yesterday")
    with pytest.raises(UndefinedError):
        render.write("overview.html.j2", {"data": SimpleNamespace(title="x", run={"run_id": 1})}, path)
    assert path.read_text() == "yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_one_sentence(settings: Settings, tmp_path: Path) -> None:
    """The error has the path, the cause and the fix."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written \(.*\): name another directory with --output"):
        write(REPORTS, settings.report.mart, tmp_path / "file" / "out", settings)


def test_compiled_templates_are_kept_beside_compiled_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read again; damaged ones are compiled again; without a place for them, nothing fails."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    names = ["charts.j2", "macros.j2"]
    for _ in range(2):
        for name in names:
            render.environment.__wrapped__().get_template(name)
        compiled = list(tmp_path.rglob("*.template"))
        assert len(compiled) == len(names)
        for path in compiled:
            path.write_bytes(b"damaged")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "file"))
    render.environment.__wrapped__().get_template("macros.j2")


def test_without_a_mart_the_next_step_is_named(settings: Settings, tmp_path: Path) -> None:
    """Without a mart, the error says to run the crawl, and no report directory is created."""
    with pytest.raises(MartError, match="run `kmsledger crawl` first"):
        write(REPORTS, tmp_path / "none.duckdb", tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_an_unknown_report_names_those_there_are() -> None:
    """A misspelled name is a usage error (2)."""
    with pytest.raises(UnknownReportError, match="no report 'overviews': choose from overview, compliance") as error:
        find("overviews")
    assert error.value.exit_code == 2


def test_the_page_may_load_nothing(page: Node) -> None:
    """The content policy forbids everything but our own style and the one script, by its hash; the script stays small."""
    (policy,) = [node.attributes["content"] for node in page.all("meta", http_equiv="Content-Security-Policy")]
    script = page.one("script").children[0]
    assert isinstance(script, str)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(script.encode()) < 24_000
    assert not [node for node in page.all() if {"src", "srcset", "data", "action"} & node.attributes.keys()]
