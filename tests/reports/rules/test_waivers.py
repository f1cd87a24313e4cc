"""Waivers: read with the place of every mistake, applied until the end of their day, and told when they are done with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from models.cli import config as config_command
from models.settings import Settings, SettingsError
from reports.mart.connection import connect
from reports.pipeline import failing, refresh
from reports.rules.findings_cli import findings as findings_command
from reports.rules.loader import load_rules
from reports.rules.waivers import WAIVER_RULES, load_waivers
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import World, only, settings_of

WAIVERS = """
- id: k1-rotation
  rule: key-rotation
  resource: "*:key/k1"
  account: "111122223333"
  reason: The vendor rotates it
  ticket: SEC-42
  owner: payments
  expires: 2026-11-20
- {rule: key-rotation, resource: alias/named, reason: It goes soon., owner: shop, expires: 2026-12-31}
- {rule: key-rotation, resource: silent, reason: So., owner: shop, expires: 2026-12-31, id: not-for-unknown}
- {rule: key-rotation, resource: k5, reason: So., owner: shop, expires: 2026-12-31, unknown: "true", id: for-unknown}
- {rule: key-rotation, resource: "nothing*", reason: So., owner: shop, expires: 2026-12-31, id: idle}
"""


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Settings:
    (tmp_path / "waivers.yaml").write_text(WAIVERS, encoding="utf-8")
    return settings_of(
        database=world.url,
        report={"mart": tmp_path / "mart.duckdb"},
        rules={**only("key-rotation", *WAIVER_RULES), "waivers": [tmp_path / "waivers.yaml"]},
        owners=[{"tag": "Owner"}, {"account": SHOP, "owner": "the shop"}],
    )


def asked(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connect(settings.report.mart) as mart:
        return mart.execute(query).fetchall()


def organization(world: World) -> None:
    for name in ("k1", "k2", "k3", "k4"):
        world.key(SHOP, IRELAND, name, rotation="on" if name == "k4" else "off")
    world.alias("alias/named", f"arn:aws:kms:{IRELAND}:{SHOP}:key/k2")
    world.tag(f"arn:aws:kms:{IRELAND}:{SHOP}:key/k3", Owner="team three")
    for name in ("silent", "k5"):
        world.key(SHOP, IRELAND, name, rotation="unknown")


def test_waivers_hold_until_the_end_of_their_day(world: World, settings: Settings, tmp_path: Path) -> None:
    """A waived failure keeps verdict, reasons and age, does not count, and is a failure again the day after; so is its waiver."""
    organization(world)
    world.crawl()
    refresh(settings)
    rows = asked(
        settings,
        "SELECT resource_name, status, unwaived_status, waiver, owner FROM findings WHERE rule_id = 'key-rotation'",
    )
    assert sorted(rows) == [
        ("alias/named", "waived", "fail", "key-rotation/alias/named", "the shop"),
        ("k1", "waived", "fail", "k1-rotation", "the shop"),
        ("k3", "fail", "fail", None, "team three"),
        ("k4", "pass", "pass", None, "the shop"),
        ("k5", "waived", "unknown", "for-unknown", "the shop"),
        ("silent", "unknown", "unknown", None, "the shop"),
    ]
    counts = "SELECT pass, fail, unknown, not_applicable, waived FROM rule_results WHERE rule_id = 'key-rotation'"
    assert asked(settings, counts) == [(1, 1, 1, 0, 3)]
    told = dict(
        asked(settings, "SELECT resource_arn, rule_id || ' ' || status FROM findings WHERE rule_id = 'waiver-unused'")
    )
    assert {name: one.split()[1] for name, one in told.items()} == {
        "waiver/k1-rotation": "pass",
        "waiver/key-rotation/alias/named": "pass",
        "waiver/not-for-unknown": "unknown",
        "waiver/for-unknown": "pass",
        "waiver/idle": "fail",
    }
    reason = "SELECT reason FROM findings WHERE resource_name = 'k1' AND rule_id = 'key-rotation'"
    ((text,),) = asked(settings, reason)
    assert text.startswith(
        "Waived until 2026-11-20 (payments, SEC-42): The vendor rotates it. The rule says: Automatic"
    )
    world.crawl()
    refresh(settings)
    row = asked(settings, "SELECT status, waiver, reopened, age_days, first_failed < since FROM findings "
                          "WHERE resource_name = 'k1' AND rule_id = 'key-rotation'")  # fmt: skip
    assert row == [("fail", None, 0, 1, True)]
    expired = asked(settings, "SELECT resource_arn FROM findings WHERE rule_id = 'waiver-expired' AND status = 'fail'")
    assert expired == [("waiver/k1-rotation",)]
    _command(settings, tmp_path)


def _command(settings: Settings, tmp_path: Path) -> None:
    """The command lists what is asked for, and its exit code goes by failures that are not waived."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {settings.database}\nreport: {{mart: mart.duckdb}}\n", encoding="utf-8")

    def run(*options: str) -> Any:
        return CliRunner().invoke(findings_command, ["--config", str(config), "--format", "csv", *options])

    rotation = ("--rule", "key-rotation")
    assert len(run(*rotation).stdout.splitlines()) == 4
    assert len(run(*rotation, "--status", "all", "--account", "Shop").stdout.splitlines()) == 7
    assert len(run(*rotation, "--owner", "team three", "--severity", "medium").stdout.splitlines()) == 2
    assert len(run(*rotation, "--severity", "high").stdout.splitlines()) == 1
    assert len(run(*rotation, "--as-of", "1", "--status", "waived").stdout.splitlines()) == 4
    assert len(run("--framework", "no such", "--family", "rotation").stdout.splitlines()) == 1
    assert run("--fail-on", "medium").exit_code == 1
    assert run("--fail-on", "never").exit_code == run("--fail-on", "critical").exit_code == 0
    assert failing(settings, "medium") > failing(settings, "medium", "1") > failing(settings, "never") == 0


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{rule: nothing, resource: x, reason: x, owner: x, expires: 2027-01-01}", 'rule: found "nothing", expected the id'),
        ("{rule: waiver-unused, resource: x, reason: x, owner: x, expires: 2027-01-01}", "cannot be waived"),
        ("{rule: key-rotation, resource: x, reason: x, owner: x}", "[0].expires: found nothing, expected a value"),
        ("{rule: key-rotation, resource: x, reason: x, owner: x, expires: 2027-02-30}", "expected a date that exists"),
        ("{rule: key-rotation, resource: x, reason: x, owner: x, expires: soon}", "expected a date, written"),
        ("{rule: key-rotation, resource: x, reason: x, expires: 2027-01-01}", "[0].owner: found nothing"),
        ("{rule: key-rotation, resource: x, reason: x, owner: x, expires: 2027-01-01, account: 12}", "12 digits"),
        ("{rule: key-rotation, ressource: x, reason: x, owner: x, expires: 2027-01-01}", 'did you mean "resource"'),
        ("just words", "expected a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(entry: str, expected: str, tmp_path: Path) -> None:
    """File, line and what was expected are said before anything is judged."""
    (tmp_path / "w.yaml").write_text(f"- {entry}\n", encoding="utf-8")
    settings = settings_of(rules={"waivers": [tmp_path / "w.yaml"]})
    with pytest.raises(SettingsError) as caught:
        load_waivers(settings, load_rules(settings))
    assert expected in str(caught.value)
    assert str(tmp_path / "w.yaml:1:") in str(caught.value)


def test_waivers_that_are_there_twice_and_files_that_are_none(tmp_path: Path) -> None:
    """Two files with the same waiver, a mapping, and a missing file are told; an empty file and a rule that is off are fine."""
    entry = "- {rule: key-rotation, resource: x, reason: x, owner: x, expires: 2027-01-01}\n"
    for name, text in (("a", entry), ("b", entry), ("c", "rule: x\n"), ("empty", ""), ("comments", "# none\n")):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    files = [tmp_path / f"{name}.yaml" for name in ("a", "b", "c", "none")]
    with pytest.raises(SettingsError) as caught:
        load_waivers(settings_of(rules={"waivers": files}), [])
    text = str(caught.value)
    assert "b.yaml:1:3: [0]: found waiver" in text
    assert "each waiver once" in text
    assert "c.yaml:1:1: found a mapping, expected a list" in text
    assert "none.yaml: found no such file" in text
    files = [tmp_path / f"{name}.yaml" for name in ("a", "empty", "comments")]
    fine = settings_of(rules={"waivers": files, "disable": ["key-rotation"]})
    assert len(load_waivers(fine, load_rules(fine))) == 1


def test_config_check_reads_the_waivers(tmp_path: Path) -> None:
    """`kmsledger config check` says how many there are, or what is wrong in which file."""
    file = tmp_path / "kmsledger.yaml"
    file.write_text("rules: {waivers: [w.yaml]}\n", encoding="utf-8")
    (tmp_path / "w.yaml").write_text("- {rule: r, resource: x, reason: x, owner: x, expires: 2027-01-01}\n")
    done = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert done.exit_code == 0
    assert "waivers:  1" in done.output
    (tmp_path / "w.yaml").write_text("- {rule: r}\n")
    done = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert done.exit_code == 2
    assert "w.yaml:1:3: [0].resource" in done.output
