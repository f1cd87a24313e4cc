"""Tests of `kmsledger rules`: list, show, new and test."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.settings import Settings
from reports.mart.connection import connect
from reports.rules.cli import rules
from reports.rules.loader import FAMILIES, RuleError, load_rules, parse_rule
from reports.rules.runner import population
from tests.reports.sample_ledger import SHOP


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(rules, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_mart: Path) -> None:
    """Run in a directory without a settings file, with a mart."""
    (tmp_path / Settings().report.mart).symlink_to(sample_mart)
    monkeypatch.chdir(tmp_path)


def test_a_rule_runs_on_demand(sample_mart: Path) -> None:
    """The result of every resource, passes included, agrees with the counts that the run stored; each resource counts once."""
    counted = connect(sample_mart)
    stored = counted.execute(
        "SELECT rule_id, sum(passed), sum(failed), sum(unknown), sum(not_applicable) FROM rule_results GROUP BY rule_id"
    ).fetchall()
    assert len(stored) > 50
    rules_by_id = {rule.rule_id: rule for rule in load_rules(Settings())}
    for rule_id, *expected in stored:
        rows = list(population(counted, rules_by_id[rule_id]))
        assert len({row[0] for row in rows}) == len(rows), f"{rule_id} returns a resource twice"
        found = Counter(row[4] for row in rows)
        assert [found[name] for name in ("pass", "fail", "unknown", "not_applicable")] == expected, rule_id
    counted.close()
    done = run("run", "key-rotation", "--mart", sample_mart, "--status", "pass", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert {row["status"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"pass"}
    shop = run("run", "key-rotation", "--mart", sample_mart, "--account", "Shop", "--format", "json")
    assert {row["account_id"] for row in json.loads(shop.stdout)} == {SHOP}


def test_all_rules_of_a_control_run(sample_mart: Path) -> None:
    """The rows of `--framework` name their rule; a rule and a framework exclude each other."""
    mapped = json.loads(run("list", "--framework", "FOUNDATIONAL security", "--format", "json").stdout)["rules"]
    done = run("run", "--framework", "FOUNDATIONAL security", "--mart", sample_mart, "--format", "csv")
    assert done.exit_code == 0, done.output
    found = {row["rule_id"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert len(found) > 1
    assert found <= {rule["id"] for rule in mapped}
    assert "name a rule, or select rules" in run("run", "--mart", sample_mart).output
    assert (
        "name a rule, or select rules" in run("run", "key-rotation", "--framework", "CIS", "--mart", sample_mart).output
    )
    assert "no active rule is mapped" in run("run", "--framework", "nosuch", "--mart", sample_mart).output


def test_a_rule_runs_as_of_an_earlier_run(sample_mart: Path) -> None:
    """The account that joined in run 2 has no key in run 1."""
    accounts = [
        {row["account_id"] for row in csv.DictReader(io.StringIO(done.stdout))}
        for done in (
            run("run", "key-rotation", "--mart", sample_mart, "--format", "csv", "--as-of", run_id) for run_id in "12"
        )
    ]
    assert accounts[1] - accounts[0] == {"000123456789"}


def test_only_rules_in_force_and_known_accounts_run(sample_mart: Path) -> None:
    """Unknown names are usage errors."""
    assert "no active rule is named nosuch" in run("run", "nosuch", "--mart", sample_mart).output
    error = run("run", "key-rotation", "--mart", sample_mart, "--account", "nosuch").exception
    assert str(error).startswith("there is no account 'nosuch' in the mart: `kmsledger sql ")


def test_list_filters_rules() -> None:
    """The list can be filtered by family, severity and framework, and is available as JSON and CSV."""
    table = run("list", "--family", "rotation")
    assert table.exit_code == 0
    assert "key-rotation" in table.output
    assert "secret-customer-managed-key" not in table.output
    listed = json.loads(
        run("list", "--framework", "CIS AWS Foundations Benchmark 3.0.0 - 3.6", "--format", "json").stdout
    )
    assert listed["format"] == "kmsledger.rules/1"
    assert [rule["id"] for rule in listed["rules"]] == ["key-rotation"]
    output = run("list", "--severity", "high", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(output)))
    assert {row["severity"] for row in rows} == {"critical", "high"}
    assert all(row["id"] and row["title"] and row["source"] for row in rows)


def test_show_prints_every_field_of_a_rule(tmp_path: Path) -> None:
    """`show` prints the current parameters, and fixes for console, CLI and Terraform."""
    settings = tmp_path / "kmsledger.yaml"
    settings.write_text("rules: {parameters: {secret-unused: {days: 30}}}\n", encoding="utf-8")
    shown = run("show", "secret-unused").output
    assert "days = 30 (default 90)" in shown
    for part in ("why:", "fix:", "console:", "cli:", "terraform:"):
        assert part in shown
    assert "PCI DSS 4.0.1 - 3.7.4" in run("show", "key-rotation").output
    rule = json.loads(run("show", "secret-unused", "--format", "json").stdout)["rule"]
    assert {"name": "days", "value": "30", "default": "90"}.items() <= rule["parameters"][0].items()
    missing = run("show", "no-rule")
    assert missing.exit_code == 2
    assert "no active rule is named no-rule" in missing.output


def test_a_new_rule_passes_its_examples(tmp_path: Path) -> None:
    """The template passes its own examples, also with gaps, and never overwrites a file."""
    written = run("new", "own-one", "--directory", tmp_path / "own")
    assert written.exit_code == 0, written.output
    tested = run("test", "--gaps", tmp_path / "own")
    assert tested.exit_code == 0, tested.output
    assert "own-one: 5 examples" in tested.output
    assert "OK" in tested.output
    for arguments, expected in (
        (("new", "own-one", "--directory", tmp_path / "own"), "already exists"),
        (("new", "key-rotation", "--directory", tmp_path / "own"), "is the ID of a shipped rule"),
        (("new", "Own One", "--directory", tmp_path / "own"), "expected lower-case words"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, RuleError)
        assert expected in str(result.exception)


def test_problems_of_a_rule_are_reported(tmp_path: Path) -> None:
    """A faulty rule gives exit code 1 and messages with file, line, example, expected and actual result."""
    run("new", "own-one", "--directory", tmp_path)
    rule, examples = tmp_path / "own-one.sql", tmp_path / "own-one.examples.yaml"
    text = rule.read_text(encoding="utf-8").replace(
        "ELSE verdict_of(length(description) >= CAST($characters AS INTEGER),\n      ",
        "WHEN length(description) < CAST($characters AS INTEGER) THEN fail('It is short.')\n    ELSE pass(",
    )
    rule.write_text(text, encoding="utf-8")
    text = (
        examples.read_text(encoding="utf-8")
        .replace("says: 6 char", "says: 7 char")
        .replace("{k1: fail}", "{k1: pass}", 1)
    )
    examples.write_text(text, encoding="utf-8")
    tested = run("test", rule)
    assert tested.exit_code == 1
    assert f"{rule}:20: ELSE pass(...)" in tested.output
    assert "expected the reason of k1 to contain '7 characters', found pass (Its description has 6" in tested.output
    assert f"{examples}:6: the key has no description: expected k1 to be pass, found fail" in tested.output


BAD_EXAMPLES = [
    ("- name: the key is described", "- names: the key is described", ":1: 'names' is not a key of an example"),
    ("expect: {k1: pass}", "expect: {k1: good}", ":2: 'good' is not a status"),
    ("expect: {k1: pass}", "expect: {k3: pass}", "expect names 'k3', which the example does not define"),
    ("description: orders}", "colour: red}", ":5: key_metadata has no 'colour'"),
    ("parameters: {characters: 10}", "parameters: {letters: 10}", "the rule has no parameter 'letters'"),
    ('action: "kms:DescribeKey"', "operation: DescribeKey", ": a gap needs an action"),
    ("- {id: k1, manager: AWS}", "- [k1]", "expected a list of mappings for 'keys'"),
    ("- {id: k1, manager: AWS}", "- {id: k1, id: k2}", "expected every key once"),
    ("- {id: k1, manager: AWS}", "- {id: k1, created_at: once}", "does not fit 'created_at'"),
    ("- name: AWS manages the key", "- name: the key is described", "another example has this name"),
    ("not_applicable", "unknown", "no example expects not_applicable"),
    ("- name", "- [", "not valid YAML"),
    ("- name", "- " + "[" * 100_000, "nested too deeply"),
    ("- name", "- \0", "the character U+0000 is not allowed"),
]


@pytest.fixture(scope="module")
def bad_examples(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of testing a directory with one new rule per mistake in an example."""
    folder = tmp_path_factory.mktemp("rules")
    for number, (old, new, _) in enumerate(BAD_EXAMPLES):
        run("new", f"own-{number}", "--directory", folder)
        examples = folder / f"own-{number}.examples.yaml"
        text = examples.read_text(encoding="utf-8")
        assert old in text
        examples.write_text(text.replace(old, new, 1), encoding="utf-8")
    return run("test", folder)


@pytest.mark.parametrize("number", range(len(BAD_EXAMPLES)), ids=[expected for *_, expected in BAD_EXAMPLES])
def test_a_bad_example_is_reported_with_its_line(number: int, bad_examples: Result) -> None:
    """A mistake in an example is reported with its file and line."""
    assert bad_examples.exit_code == 1, bad_examples.output
    reported = [line for line in bad_examples.output.splitlines() if f"own-{number}.examples.yaml:" in line]
    assert any(BAD_EXAMPLES[number][2] in line for line in reported), reported


def test_a_new_rule_is_complete_as_a_shipped_rule(tmp_path: Path) -> None:
    """The template has every text that a shipped rule needs, so that it loads in any directory of rules."""
    run("new", "own-one", "--directory", tmp_path)
    rule = parse_rule("own-one.sql", (tmp_path / "own-one.sql").read_text(encoding="utf-8"), complete=True)
    assert all((rule.why, rule.fix, rule.console, rule.cli, rule.terraform, rule.family in FAMILIES))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "-- id: own-one\n-- title: Unfinished\n-- severity:\nSELECT 1",
            ":3: the header needs a text for 'severity', 'why', 'fix'",
        ),
        (
            "-- id: own-one\n-- title: a\n-- severity: low\n-- why: a\n-- fix: a\n",
            ":6: the rule needs a SELECT after the header",
        ),
    ],
)
def test_an_incomplete_rule_is_reported_and_skipped(text: str, expected: str, tmp_path: Path) -> None:
    """Commands work while a rule is being written: a warning names the file and what is missing; `rules test` fails."""
    (tmp_path / "own").mkdir()
    rule = tmp_path / "own" / "own-one.sql"
    rule.write_text(text, encoding="utf-8")
    config = tmp_path / "kmsledger.yaml"
    config.write_text("rules: {directories: [own], disable: [own-one]}\n", encoding="utf-8")
    command = [sys.executable, "-m", "kmsledger", "rules", "list", "--format", "json", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "own-one" not in {listed["id"] for listed in json.loads(done.stdout)["rules"]}
    assert done.stderr == f"{rule}{expected}; the rule is skipped until it is complete\n"
    tested = run("test", tmp_path / "own")
    assert tested.exit_code == 1
    assert expected in tested.output


def test_an_unknown_rule_is_a_usage_error(tmp_path: Path) -> None:
    """An unknown name and a directory without rules give exit code 2."""
    assert run("test", "no-rule").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run("test", tmp_path / "empty").exit_code == 2
    assert run("test", "key-rotation").exit_code == 0
