"""Tests of waivers: errors in files, expiry, and the rules that report expired and unused waivers."""

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
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

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
- {rule: key-rotation, resource: k5, reason: So., owner: shop, expires: 2026-12-31, include_unknown: "true", id: for-unknown}
- {rule: key-rotation, resource: "nothing*", reason: So., owner: shop, expires: 2026-12-31, id: idle}
"""


@pytest.fixture
def settings(world: LedgerBuilder, tmp_path: Path) -> Settings:
    (tmp_path / "waivers.yaml").write_text(WAIVERS, encoding="utf-8")
    return settings_of(
        database=world.url,
        report={"mart": tmp_path / "mart.duckdb"},
        rules={**only("key-rotation", *WAIVER_RULES), "waivers": [tmp_path / "waivers.yaml"]},
        owners=[{"tag": "Owner"}, {"account": SHOP, "owner": "the shop"}],
    )


def query_mart(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connect(settings.report.mart) as mart:
        return mart.execute(query).fetchall()


def organization(world: LedgerBuilder) -> None:
    for name in ("k1", "k2", "k3", "k4"):
        world.key(SHOP, IRELAND, name, rotation="enabled" if name == "k4" else "disabled")
    world.alias("alias/named", f"arn:aws:kms:{IRELAND}:{SHOP}:key/k2")
    world.tag(f"arn:aws:kms:{IRELAND}:{SHOP}:key/k3", Owner="team three")
    for name in ("silent", "k5"):
        world.key(SHOP, IRELAND, name, rotation="unknown")


def test_a_waiver_can_select_keys_by_tag_and_description(world: LedgerBuilder, settings: Settings) -> None:
    """Tag (with or without a value) and description pattern limit a waiver to such keys; unread tags select nothing."""
    path = settings.rules.waivers[0]
    waiver = (
        "rule: key-rotation, resource: '*', reason: The application replaces its keys, owner: o, expires: 2026-12-31"
    )
    path.write_text(
        f"- {{{waiver}, id: by-value, tag: Rotation=self}}\n- {{{waiver}, id: by-tag, tag: SelfRotated}}\n"
        f"- {{{waiver}, id: by-text, description: 'app key *', account: '{SHOP}'}}\n",
        encoding="utf-8",
    )
    for name, tags, description in (
        ("value", {"Rotation": "self"}, ""),
        ("other-value", {"Rotation": "aws"}, ""),
        ("tag", {"SelfRotated": ""}, ""),
        ("text", {}, "app key 2026-11"),
        ("other-text", {}, "the app key"),
        ("unread", {"Rotation": "self"}, ""),
    ):
        arn = world.key(SHOP, IRELAND, name, rotation="disabled", description=description)
        world.tag(arn, **tags)
        if name == "unread":
            world.gap(SHOP, IRELAND, "kms:ListResourceTags", arn)
    world.crawl()
    refresh(settings)
    rows = query_mart(
        settings, "SELECT split_part(resource_arn, '/', 2), waiver FROM findings WHERE rule_id = 'key-rotation'"
    )
    assert dict(rows) == {
        "value": "by-value",
        "tag": "by-tag",
        "text": "by-text",
        **dict.fromkeys(("other-value", "other-text", "unread")),
    }


def test_waivers_apply_until_the_end_of_their_last_day(
    world: LedgerBuilder, settings: Settings, tmp_path: Path
) -> None:
    """A waived failure keeps result, reason and age and is not counted; when the waiver expires, both are failures."""
    organization(world)
    world.crawl()
    refresh(settings)
    rows = query_mart(
        settings,
        "SELECT resource_name, status, unwaived_status, waiver, owner FROM findings WHERE rule_id = 'key-rotation'",
    )
    assert sorted(rows) == [
        ("alias/named", "waived", "fail", "key-rotation/alias/named", "the shop"),
        ("k1", "waived", "fail", "k1-rotation", "the shop"),
        ("k3", "fail", "fail", None, "team three"),
        ("k5", "waived", "unknown", "for-unknown", "the shop"),
        ("silent", "unknown", "unknown", None, "the shop"),
    ]
    counts = "SELECT passed, failed, unknown, not_applicable, waived FROM rule_results WHERE rule_id = 'key-rotation'"
    assert query_mart(settings, counts) == [(1, 1, 1, 0, 3)]
    results = dict(
        query_mart(
            settings, "SELECT resource_arn, rule_id || ' ' || status FROM findings WHERE rule_id = 'waiver-unused'"
        )
    )
    assert {name: result.split()[1] for name, result in results.items()} == {
        "waiver/not-for-unknown": "unknown",
        "waiver/idle": "fail",
    }
    assert query_mart(settings, "SELECT sum(passed) FROM rule_results WHERE rule_id = 'waiver-unused'") == [(3,)]
    reason = "SELECT reason FROM findings WHERE resource_name = 'k1' AND rule_id = 'key-rotation'"
    ((text,),) = query_mart(settings, reason)
    assert text.startswith(
        "Waived until 2026-11-20 (payments, SEC-42): The vendor rotates it. The rule reports: Automatic"
    )
    world.crawl()
    refresh(settings)
    row = query_mart(settings, "SELECT status, waiver, reopened, age_days, first_failed < since FROM findings "
                          "WHERE resource_name = 'k1' AND rule_id = 'key-rotation'")  # fmt: skip
    assert row == [("fail", None, 0, 1, True)]
    expired = query_mart(
        settings, "SELECT resource_arn FROM findings WHERE rule_id = 'waiver-expired' AND status = 'fail'"
    )
    assert expired == [("waiver/k1-rotation",)]
    _command(settings, tmp_path)


def _command(settings: Settings, tmp_path: Path) -> None:
    """The command applies its filters, and its exit code depends on unwaived failures."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {settings.database}\nreport: {{mart: mart.duckdb}}\n", encoding="utf-8")

    def run(*options: str) -> Any:
        return CliRunner().invoke(findings_command, ["--config", str(config), "--format", "csv", *options])

    rotation = ("--rule", "key-rotation")
    assert len(run(*rotation).stdout.splitlines()) == 4
    assert len(run(*rotation, "--status", "all", "--account", "Shop").stdout.splitlines()) == 6
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
        ("{rule: nothing, resource: x, reason: x, owner: x, expires: 2027-01-01}", 'rule: found "nothing", expected the ID'),
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
def test_an_invalid_waiver_is_reported_with_its_line(entry: str, expected: str, tmp_path: Path) -> None:
    """An invalid waiver raises SettingsError with file, line and expected value."""
    (tmp_path / "w.yaml").write_text(f"- {entry}\n", encoding="utf-8")
    settings = settings_of(rules={"waivers": [tmp_path / "w.yaml"]})
    with pytest.raises(SettingsError) as caught:
        load_waivers(settings, load_rules(settings))
    assert expected in str(caught.value)
    assert str(tmp_path / "w.yaml:1:") in str(caught.value)


def test_duplicate_waivers_and_invalid_files_are_reported(tmp_path: Path) -> None:
    """Duplicates, a mapping and a missing file are errors; an empty file and a disabled rule are valid."""
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
    assert "none.yaml: the file does not exist" in text
    files = [tmp_path / f"{name}.yaml" for name in ("a", "empty", "comments")]
    valid = settings_of(rules={"waivers": files, "disable": ["key-rotation"]})
    assert len(load_waivers(valid, load_rules(valid))) == 1


def test_config_check_reads_the_waivers(tmp_path: Path) -> None:
    """`kmsledger config check` prints the number of waivers, or the errors with their file."""
    file = tmp_path / "kmsledger.yaml"
    file.write_text("rules: {waivers: [w.yaml]}\n", encoding="utf-8")
    (tmp_path / "w.yaml").write_text("- {rule: r, resource: x, reason: x, owner: x, expires: 2027-01-01}\n")
    result = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert result.exit_code == 0
    assert "waivers:  1" in result.output
    (tmp_path / "w.yaml").write_text("- {rule: r}\n")
    result = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert result.exit_code == 2
    assert "w.yaml:1:3: [0].resource" in result.output
