"""Tests of published frameworks: their files, errors in them, and known mistakes of other mappings."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.framework_loader import Framework, controls_by_rule, load_frameworks
from reports.rules.loader import rule_files
from reports.rules.yaml_files import InvalidYamlError, read_document
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

FRAMEWORKS = {framework.framework_id: framework for framework in load_frameworks()}
FILES = {file.name: file for file in resources.files("reports.rules").joinpath("frameworks").iterdir()}


def rules_of(framework: str) -> dict[str, tuple[str, ...]]:
    return {control.control_id: control.rules for control in FRAMEWORKS[framework].controls}


def test_every_mapped_rule_exists() -> None:
    """Frameworks only map shipped rules."""
    assert set(controls_by_rule()) <= {name.removesuffix(".sql") for name, _, _ in rule_files()}


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_names_are_unique(framework: Framework) -> None:
    """Framework names are unique, so that the citation of a control is unambiguous."""
    assert [other.name for other in FRAMEWORKS.values()].count(framework.name) == 1
    assert framework.source.startswith("https://")


def test_controls_outside_the_best_practices_are_not_mapped_to_them() -> None:
    """Rotation (KMS.4) and bucket encryption with KMS (S3.17) are controls of Security Hub, but not of its best practices."""
    controls = rules_of("aws-fsbp")
    assert not {"KMS.4", "S3.17", "SecretsManager.5"} & set(controls)
    assert not {"key-rotation", "bucket-kms-encryption"} & {rule for rules in controls.values() for rule in rules}


@pytest.mark.parametrize(
    ("version", "rotation", "trail"),
    [
        ("1.4.0", "3.8", "3.7"),
        ("1.5.0", "3.8", "3.7"),
        ("2.0.0", "3.8", "3.7"),
        ("3.0.0", "3.6", "3.5"),
        ("4.0.0", "3.6", "3.5"),
        ("5.0.0", "3.6", "3.5"),
        ("6.0.0", "4.6", "4.5"),
        ("7.0.0", "4.6", "4.5"),
    ],
)
def test_control_numbers_of_the_cis_benchmark_differ_between_versions(version: str, rotation: str, trail: str) -> None:
    """The number of a control belongs to one version of the benchmark."""
    controls = rules_of(f"cis-aws-{version}")
    assert controls[rotation] == ("key-rotation",)
    assert controls[trail] == ("trail-encrypted",)


def test_control_numbers_of_pci_dss_differ_between_versions() -> None:
    """Key changes are 3.6.4 in version 3.2.1 and 3.7.4 in 4.0.1."""
    assert rules_of("pci-dss-3.2.1")["3.6.4"] == rules_of("pci-dss-4.0.1")["3.7.4"] == ("key-rotation",)


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_file_has_the_documented_form(file: str) -> None:
    """Each file is named after its ID, has a public source and a date, and each control has a title and its rules, each once."""
    values = read_document(FILES[file].read_text(encoding="utf-8"))
    assert set(values) == {"id", "title", "version", "source", "checked", "controls"}
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*", values["id"])
    assert file == f"{values['id']}.yaml"
    assert values["title"].strip()
    assert isinstance(values["version"], str)
    assert values["source"].startswith("https://")
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", values["checked"])
    assert values["controls"]
    for name, control in values["controls"].items():
        assert set(control) == {"title", "rules"}, name
        assert isinstance(control["title"], str), name
        assert control["title"].strip(), name
        assert isinstance(control["rules"], list), name
        assert control["rules"], name
        assert all(isinstance(rule_id, str) for rule_id in control["rules"]), name
        assert len(set(control["rules"])) == len(control["rules"]), name


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ('controls:\n  "1": {title: a}\n  "1": {title: b}\n', 3, "'1' is already on line 2"),
        ("id: own\ncontrols: [\n", 3, "not valid YAML"),
        ("title: " + "[" * 100_000, 1, "not valid YAML: lists or mappings nested too deeply"),
    ],
)
def test_an_error_in_the_yaml_has_its_line(text: str, line: int, expected: str) -> None:
    """A repeated key, a syntax error and a text that is nested too deeply are reported with their lines."""
    with pytest.raises(InvalidYamlError, match=re.escape(expected)) as caught:
        read_document(text)
    assert caught.value.line == line


def test_controls_are_counted_in_the_mart(world: LedgerBuilder, tmp_path: Path) -> None:
    """Views return the status of each control; a control whose rule is disabled is unknown."""
    world.key("111122223333", "eu-west-1", "k1", rotation="disabled")
    world.key("111122223333", "eu-west-1", "k2")
    world.crawl()
    mart = tmp_path / "mart.duckdb"
    framework = "CIS AWS Foundations Benchmark 3.0.0"
    mapped = {
        rule_id for rule_id, controls in controls_by_rule().items() if any(framework in control for control in controls)
    }
    in_force = only(*(mapped - {"trail-encrypted"}))
    refresh(settings_of(database=world.url, report={"mart": mart}, rules=in_force))
    connection = connect(mart)
    rows = connection.execute(
        "SELECT control, status, passed, failed, rules_in_force FROM framework_controls "
        "WHERE framework = 'cis-aws-3.0.0' ORDER BY control"
    ).fetchall()
    totals = connection.execute(
        "SELECT controls, passed, failed, unknown, not_applicable FROM frameworks WHERE framework = 'cis-aws-3.0.0'"
    ).fetchone()
    named = connection.execute("SELECT frameworks FROM rules WHERE rule_id = 'key-rotation'").fetchone()
    connection.close()
    assert rows == [
        ("2.3.1", "not_applicable", 0, 0, 1),
        ("3.5", "unknown", 0, 0, 0),
        ("3.6", "fail", 1, 1, 1),
    ]
    assert totals == (3, 0, 1, 1, 1)
    assert named is not None
    assert "CIS AWS Foundations Benchmark 3.0.0 - 3.6" in named[0]
