"""The documents become a site: `make docs` builds it from the same files, and a broken link or heading fails."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ("Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "config.example.yaml")


def make_docs(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `make docs` in a copy of the documents, with the environment of the tests."""
    command = ["make", "-C", str(directory), "docs", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.deep  # two builds of the site
def test_the_site_has_all_documents_and_no_broken_link(tmp_path: Path) -> None:
    """Each document has a page that is linked in the navigation, pages load nothing of other hosts, and a wrong anchor fails."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name)
    done = make_docs(tmp_path)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "build" / "site"
    home = (site / "index.html").read_text(encoding="utf-8")
    for document in (ROOT / "docs").glob("*.md"):
        page = f"docs/{document.stem}.html"
        assert (site / page).is_file()
        assert f'href="{page}"' in home
    settings = (site / "docs" / "settings.html").read_text(encoding="utf-8")
    assert 'href="docs/settings.html"' in home
    shown = html.unescape(re.sub(r"<[^>]+>", "", settings))
    assert (ROOT / "config.example.yaml").read_text(encoding="utf-8").strip() in shown
    loaded = re.findall(r'<(?:script|img)[^>]* src="([^"]+)|<link[^>]* rel="stylesheet"[^>]* href="([^"]+)', home)
    assert loaded
    assert home.count("<ol>") == 1  # the steps of the README are one list: blocks in it are indented by four spaces
    assert not [address for pair in loaded for address in pair if "//" in address]
    with (tmp_path / "docs" / "tutorial.md").open("a", encoding="utf-8") as tutorial:
        tutorial.write("\n[wrong](rules.md#no-such-heading)\n")
    done = make_docs(tmp_path)
    assert done.returncode != 0
    assert "no-such-heading" in done.stdout + done.stderr
