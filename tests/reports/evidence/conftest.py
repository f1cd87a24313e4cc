"""One small organization with results of every status: its ledger, the marts of its two runs, and the pack of the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.settings import Settings
from reports.evidence.cli import evidence
from reports.pipeline import refresh
from tests.made_once import made_once
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of
from tests.reports.mart_schema import offer_schema

SHOP, IRELAND, PARIS = "111122223333", "eu-west-1", "eu-west-3"
FRAMEWORK = "nist-800-53-r5"
RULES = ("key-rotation", "key-pending-deletion", "key-duty-separation")
"""The rules in force; the other rules of the framework are disabled."""
FORMULA = '=HYPERLINK("http://x","y")'
WAIVERS = """
- {rule: key-rotation, resource: "*:key/accepted", reason: It goes soon., owner: shop, expires: 2026-12-31, id: w1}
- {rule: key-rotation, resource: "*:key/unseen", reason: So., owner: shop, expires: 2026-12-31, id: w2, include_unknown: true}
"""
WritePack = Callable[..., Path]


@pytest.fixture(scope="session")
def evidence_folder(shared_directory: Path) -> Path:
    """`1.duckdb` is the mart of the first run; `2.duckdb`, of the second, was built from the ledger after a third one failed.

    The second run has no waivers, two facts are different, and a region is not read.
    """
    return made_once(shared_directory / "evidence", _make)


def _settings(folder: Path, name: str, **rules: object) -> Settings:
    """Settings of the organization, also as a file."""
    values = {
        "database": f"sqlite:///{folder / 'store.db'}",
        "report": {"mart": str(folder / "2.duckdb")},
        "rules": {**only(*RULES), **rules},
    }
    (folder / f"{name}.yaml").write_text(json.dumps(values), encoding="utf-8")
    return settings_of(**values)


def _make(folder: Path) -> None:
    folder.mkdir()
    (folder / "waivers.yaml").write_text(WAIVERS, encoding="utf-8")
    settings = _settings(folder, "no-waivers")
    first = _settings(folder, "settings", waivers=[str(folder / "waivers.yaml")])
    _settings(folder, "more-rules", **only(*RULES, "key-pending-deletion-unused"))
    world = LedgerBuilder(settings.database)
    world.account(SHOP, FORMULA, IRELAND, PARIS)
    for name in ("off", "accepted", "late"):
        world.key(SHOP, IRELAND, name, rotation="disabled")
    for name in ("dark", "unseen"):
        world.key(SHOP, IRELAND, name, rotation="unknown", policy=None)
    world.gap(SHOP, IRELAND, "kms:GetKeyPolicy", f"arn:aws:kms:{IRELAND}:{SHOP}:key/dark")
    world.key(SHOP, IRELAND, "undescribed", rotation="enabled")
    world.gap(SHOP, IRELAND, "kms:DescribeKey", f"arn:aws:kms:{IRELAND}:{SHOP}:key/undescribed")
    world.key(SHOP, IRELAND, "fine", rotation="enabled")
    world.key(SHOP, PARIS, "far", rotation="enabled")
    world.key(SHOP, IRELAND, "aws", rotation="not_applicable", manager="AWS", policy=None)
    world.key(SHOP, IRELAND, "formula", policy=FORMULA)
    world.crawl()
    refresh(first)
    (folder / "2.duckdb").rename(folder / "1.duckdb")
    offer_schema(folder / "2.duckdb")  # its mart is built from the ledger alone
    world.key(SHOP, IRELAND, "late", rotation="enabled")
    world.key(SHOP, IRELAND, "new", rotation="disabled")
    world.outcomes[SHOP, PARIS] = ("failed", "the endpoint could not be reached")
    world.crawl()
    world.crawl(status="failed")
    refresh(settings)
    write_pack(folder, folder / "pack.zip")


def export(folder: Path, path: Path, *options: str, mart: str = "1", settings: str = "settings") -> Result:
    """Run the command that writes the pack of a mart."""
    files = [
        "--config",
        str(folder / f"{settings}.yaml"),
        "--mart",
        str(folder / f"{mart}.duckdb"),
        "--output",
        str(path),
    ]
    return CliRunner().invoke(evidence, ["--framework", FRAMEWORK, *files, *options])


def write_pack(folder: Path, path: Path, *options: str, mart: str = "1", settings: str = "settings") -> Path:
    """Write the pack of a mart, and return its path."""
    done = export(folder, path, *options, mart=mart, settings=settings)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="session")
def pack(evidence_folder: Path) -> Path:
    """The pack of the first run, which no test changes."""
    return evidence_folder / "pack.zip"
