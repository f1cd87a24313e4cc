"""Published reports: copies in a folder of their own, and an index page of all runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.output_file import OutputError
from models.settings import Settings
from reports.html.publication import publish
from tests.reports.html.page import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "public" / "kms"


def test_the_index_lists_every_published_run(settings: Settings, path: Path, folder: Path) -> None:
    """The latest run comes first, with the figures of the mart; a run that the ledger has lost keeps its link."""
    report = path.with_name("kmsledger-overview-run3.html")
    folder.mkdir(parents=True)
    for name in ("overview-run1", "compliance-run1", "overview-run9"):
        (folder / f"kmsledger-{name}.html").write_text("an earlier report")
    assert publish([path, report], folder, settings) == [folder / report.name, folder / "index.html"]
    assert (folder / report.name).read_bytes() == report.read_bytes()
    page = read((folder / "index.html").read_text(encoding="utf-8"))
    rows = [[cell.text for cell in row.all("td")] for row in page.all("tr", class_="r")]
    assert rows[0] == ["9", "no longer in the ledger", "overview", "unknown"]
    assert rows[1][:3] == ["3", "2026-11-22 03:04 UTC", "overview"]
    assert rows[1][3:5] == ["with gaps", "4 of 7"]
    assert rows[2][0] == "1"
    assert rows[2][2] == "overview · compliance"
    assert [link.attributes["href"] for link in page.all("a")] == [
        "kmsledger-overview-run9.html",
        "kmsledger-overview-run3.html",
        "kmsledger-overview-run1.html",
        "kmsledger-compliance-run1.html",
    ]


def test_other_files_are_neither_published_nor_listed(settings: Settings, path: Path, folder: Path) -> None:
    """Only files named after a report and a run number count: no name from elsewhere becomes a path or a link."""
    folder.mkdir(parents=True)
    strange = (
        "kmsledger-<b>-run1.html",
        "kmsledger-overview-run1.html.bak",
        "notes.txt",
        "kmsledger-overview-as-of-run1.html",
    )
    for name in strange:
        (folder / name).write_text("x")
    (folder / "kmsledger-overview-run2.html").mkdir()
    outside = path.with_name("kmsledger-overview-run3.html")
    publish([outside, path, path.with_name("..html")], folder, settings)
    page = read((folder / "index.html").read_text(encoding="utf-8"))
    assert [link.attributes["href"] for link in page.all("a")] == [outside.name]
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(
        [*strange, "kmsledger-overview-run2.html", outside.name, "index.html"]
    )


def test_a_folder_that_cannot_be_written_is_explained(settings: Settings, path: Path, tmp_path: Path) -> None:
    """The error names the setting, and nothing is written elsewhere."""
    taken = tmp_path / "public"
    taken.write_text("a file")
    with pytest.raises(OutputError, match=r"public cannot be written .*: correct report\.publish"):
        publish([path.with_name("kmsledger-overview-run3.html")], taken, settings)
    assert taken.read_text() == "a file"


def test_the_title_is_escaped(settings: Settings, path: Path, folder: Path) -> None:
    """The index has no markup but its own, and its policy allows neither scripts of others nor network access."""
    hostile = "</title><script>alert(1)</script>\u202e"
    report = settings.report.model_copy(update={"title": hostile})
    publish([path.with_name("kmsledger-overview-run3.html")], folder, settings.model_copy(update={"report": report}))
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;U+202E&gt;" in text
    assert "default-src &#39;none&#39;" in text
