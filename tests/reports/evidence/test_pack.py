"""What an evidence pack contains, and that it can be written again."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import duckdb
import pytest
from click.testing import CliRunner

from models.settings import load
from reports.evidence import pack as packs
from reports.evidence.cli import evidence
from reports.evidence.manifest import SAFE_NAME
from reports.evidence.verify import check
from reports.mart.connection import connect
from reports.mart.errors import OverLimitError, QueryError
from reports.rules.framework_loader import Control, Framework, UnknownFrameworkError, load_frameworks
from reports.rules.loader import Rule, load_rules
from reports.rules.runner import population
from tests.reports.evidence.conftest import FORMULA, FRAMEWORK, RULES, export, write_pack

Rows = list[dict[str, str]]


@pytest.fixture
def mart(evidence_folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(evidence_folder / "1.duckdb") as connection:
        yield connection


@pytest.fixture
def rules(evidence_folder: Path) -> dict[str, Rule]:
    return {rule.rule_id: rule for rule in load_rules(load(evidence_folder / "settings.yaml"))}


@pytest.fixture
def later_pack(evidence_folder: Path, tmp_path: Path) -> Path:
    return write_pack(evidence_folder, tmp_path / "later.zip", mart="2", settings="no-waivers")


def text(path: Path, name: str) -> str:
    with ZipFile(path) as zipped:
        return zipped.read(name).decode()


def table(path: Path, name: str) -> Rows:
    return list(csv.DictReader(io.StringIO(text(path, name))))


def controls_of(path: Path, rule_id: str) -> dict[str, Rows]:
    """The rows of a rule in each of its controls, by file."""
    files = {row["file"] for row in table(path, "controls.csv") if row["rule_id"] == rule_id}
    return {file: [row for row in table(path, file) if row["rule_id"] == rule_id] for file in sorted(files)}


def by_key(path: Path, rule_id: str) -> dict[str, dict[str, str]]:
    (rows, *_) = controls_of(path, rule_id).values()
    return {row["resource_arn"].rpartition("/")[2]: row for row in rows}


@pytest.mark.parametrize("rule_id", RULES)
def test_a_control_has_every_result_of_its_rules(
    rule_id: str, pack: Path, mart: duckdb.DuckDBPyConnection, rules: dict[str, Rule]
) -> None:
    """The rows of a control equal the rule's SELECT, before waivers; a reason differs only where a waiver applies."""
    expected = {row[0]: (row[4], row[5]) for row in population(mart, rules[rule_id])}
    for rows in controls_of(pack, rule_id).values():
        assert len(rows) == len(expected)
        assert {row["resource_arn"]: row["unwaived_status"] for row in rows} == {
            arn: status for arn, (status, _) in expected.items()
        }
        for row in rows:
            assert row["reason"].endswith(expected[row["resource_arn"]][1])


def test_results_of_every_status_are_listed_with_their_recorded_waivers(pack: Path) -> None:
    """A waived result keeps its own status beside `waived`, and the reason names owner, last day and reason of the waiver."""
    rows = by_key(pack, "key-rotation")
    assert Counter(row["status"] for row in rows.values()) == {
        "fail": 2,
        "unknown": 2,
        "waived": 2,
        "pass": 3,
        "not_applicable": 1,
    }
    assert [rows[name]["waiver"] for name in ("accepted", "unseen", "off")] == ["w1", "w2", ""]
    assert [rows[name]["unwaived_status"] for name in ("accepted", "unseen")] == ["fail", "unknown"]
    assert rows["accepted"]["reason"].startswith("Waived until 2026-12-31 (shop): It goes soon. The rule reports: ")
    assert [rows[name]["recorded_status"] for name in ("off", "accepted", "fine")] == ["fail", "waived", ""]
    assert {row["waiver"] for row in table(pack, "waivers.csv")} == {"w1", "w2"}


def test_the_query_of_a_rule_returns_its_results(
    pack: Path, mart: duckdb.DuckDBPyConnection, rules: dict[str, Rule]
) -> None:
    """The query in the pack runs as it is, parameters included, and returns what the pack lists before waivers."""
    for row in table(pack, "rules.csv"):
        found = mart.execute(text(pack, f"rules/{row['rule_id']}.sql")).fetchall()
        assert sorted(found) == sorted(population(mart, rules[row["rule_id"]]))
        assert json.loads(row["parameters"]) == rules[row["rule_id"]].parameters


def test_parameters_are_bound_as_literals() -> None:
    """A parameter becomes a literal in the query, but not where a text or a comment only looks like one."""
    query = "SELECT '$a', $a, ü AS \"$a\" /* $a */ FROM t WHERE x=$ab -- $a"
    assert (
        packs.bound(query, {"a": "it's", "ab": "1"})
        == "SELECT '$a', 'it''s', ü AS \"$a\" /* $a */ FROM t WHERE x='1' -- $a"
    )


def test_the_status_of_a_control_is_that_of_the_view(pack: Path, mart: duckdb.DuckDBPyConnection) -> None:
    """A control is failed, unknown (also if a rule is disabled), passed or not applicable as in `framework_controls`."""
    query = "SELECT control, status FROM framework_controls WHERE framework = $framework"
    expected = dict(mart.execute(query, {"framework": FRAMEWORK}).fetchall())
    assert {row["control"]: row["status"] for row in table(pack, "controls.csv")} == expected


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ([{"fail": 1, "unknown": 1, "pass": 9}, None], "fail"),
        ([{"fail": 0, "unknown": 1, "pass": 9}], "unknown"),
        ([{"fail": 0, "pass": 9}, None], "unknown"),
        ([{"fail": 0, "waived": 1}], "pass"),
        ([{"fail": 0, "pass": 0, "not_applicable": 3}, {"pass": 1}], "pass"),
        ([{"fail": 0, "pass": 0, "not_applicable": 3}], "not_applicable"),
        ([{"fail": 0, "pass": 0, "not_applicable": 0}], "not_applicable"),
    ],
)
def test_the_most_severe_result_decides_a_control(counts: list[dict[str, int] | None], status: str) -> None:
    """A control passes only if every rule was evaluated and nothing failed or is unknown."""
    assert packs.control_status(counts) == status


def test_what_is_unknown_is_stated(pack: Path) -> None:
    """Gaps, unread policies and disabled rules are in the pack with their reasons."""
    readme = text(pack, "README.md")
    assert "* 2 requests that AWS did not answer" in readme
    assert "cannot pass: bucket-kms-encryption, cache-encrypted," in readme
    assert {(row["action"], row["reason"]) for row in table(pack, "gaps.csv")} == {
        ("kms:DescribeKey", "access was denied without a reason"),
        ("kms:GetKeyPolicy", "access was denied without a reason"),
    }
    disabled = [row for row in table(pack, "controls.csv") if row["in_force"] == "false"]
    assert disabled
    assert all(row["pass"] == "" for row in disabled)


def test_every_key_has_its_policy_or_why_it_is_unknown(pack: Path, later_pack: Path) -> None:
    """A policy is current if it was read in the run, whether or not the key could be described; else its state says why not.

    By default, the policies of AWS managed keys are not requested.
    """
    states = policy_states(pack)
    assert states["dark"] == (False, "unknown: access was denied without a reason")
    assert states["unseen"] == (False, "unknown: it was not read")
    assert states["aws"] == (False, "not requested: AWS manages the key")
    assert states["undescribed"] == states["far"] == states["fine"] == (True, "current")
    assert policy_states(later_pack)["far"] == (True, "of an earlier run: its account and region were not read")
    texts = {row["policy"] for row in table(pack, "policies.csv")}
    assert texts == {row["policy"] for row in table(pack, "key_policies.csv")} - {""}


def policy_states(path: Path) -> dict[str, tuple[bool, str]]:
    """By the key's name: whether it has a policy, and its state."""
    rows = table(path, "key_policies.csv")
    return {row["key_arn"].rpartition("/")[2]: (row["policy"] != "", row["state"]) for row in rows}


def test_formulas_are_defused(pack: Path) -> None:
    """A name or policy that a spreadsheet would take for a formula begins with an apostrophe."""
    assert {row["account_name"] for row in table(pack, "coverage.csv")} == {f"'{FORMULA}"}
    assert f"'{FORMULA}" in {row["received"] for row in table(pack, "policies.csv")}


@pytest.mark.parametrize(("mart", "options"), [("1", ()), ("1", ("--as-of", "1")), ("2", ("--as-of", "1"))])
def test_the_pack_of_a_run_can_be_written_again(
    mart: str, options: tuple[str, ...], pack: Path, evidence_folder: Path, tmp_path: Path
) -> None:
    """The same run gives the same bytes: at once, and after a later run from a mart that was rebuilt from the ledger.

    The waivers of the run are history: those of the settings were removed since.
    """
    again = write_pack(evidence_folder, tmp_path / "again.zip", *options, mart=mart, settings="no-waivers")
    assert again.read_bytes() == pack.read_bytes()


def test_another_run_has_another_pack(pack: Path, later_pack: Path) -> None:
    """The pack of the second run has its facts: fixed keys pass, new keys fail, waivers are gone."""
    rows = by_key(later_pack, "key-rotation")
    assert [rows[name]["status"] for name in ("late", "new", "accepted")] == ["pass", "fail", "fail"]
    assert by_key(pack, "key-rotation")["late"]["status"] == "fail"


def test_a_difference_from_the_recorded_results_is_reported(evidence_folder: Path, tmp_path: Path) -> None:
    """A rule whose counts are not those of the run is named by the command and in the pack: the two cannot be mixed up."""
    done = export(evidence_folder, tmp_path / "pack.zip", settings="more-rules")
    assert done.exit_code == 0
    checked = check(tmp_path / "pack.zip")
    about = f"{checked.files} files about run 1; SHA-256 of the manifest {checked.digest}"
    assert done.stdout == f"{tmp_path / 'pack.zip'}: {about}\n"
    assert "differ from those that run 1 recorded: key-pending-deletion-unused" in done.stderr
    assert "run recorded: key-pending-deletion-unused. A difference" in text(tmp_path / "pack.zip", "README.md")


@pytest.mark.parametrize(
    ("status", "recorded", "expected"),
    [
        ("fail", "fail", False),
        ("pass", None, False),
        ("not_applicable", None, False),
        ("fail", None, True),
        ("unknown", None, True),
        ("waived", "fail", True),
        ("fail", "waived", True),
        ("pass", "fail", True),
        ("pass", "not_applicable", True),
    ],
)
def test_a_result_differs_if_another_status_was_recorded(status: str, recorded: str | None, expected: bool) -> None:
    """Two results that are exchanged differ, although the counts are equal; a pass that never was a problem is not recorded."""
    assert packs.differs(status, recorded) is expected


def test_an_unknown_framework_is_refused_with_the_known_ones() -> None:
    """The message lists the frameworks, and no file is written; exit code 2."""
    done = CliRunner().invoke(evidence, ["--framework", "cis"])
    assert isinstance(done.exception, UnknownFrameworkError)
    assert done.exception.exit_code == 2
    names = ", ".join(framework.framework_id for framework in load_frameworks())
    assert str(done.exception) == f"no framework is named 'cis': choose from {names}"


def test_a_run_that_did_not_end_has_no_pack(evidence_folder: Path, tmp_path: Path) -> None:
    """The pack of a run that failed would look like the evidence of a smaller organization: exit code 2, and no file."""
    done = export(evidence_folder, tmp_path / "pack.zip", "--as-of", "3", mart="2")
    assert isinstance(done.exception, QueryError)
    assert "has not ended" in str(done.exception)
    assert not (tmp_path / "pack.zip").exists()


def test_a_lack_of_memory_is_not_an_invalid_rule(evidence_folder: Path, tmp_path: Path) -> None:
    """The message names the options that allow more memory; exit code 4, and no file."""
    done = export(evidence_folder, tmp_path / "pack.zip", "--memory-limit", "1MB")
    assert isinstance(done.exception, OverLimitError), done.exception
    assert "--temp-directory" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_file_names_are_safe_and_distinct() -> None:
    """Files are named after controls, but never with a path, a reserved character or the name of another control's file."""
    names = ["SC-28(3)", "SC-28[3]", "../../etc/passwd", "C:\\x", "", "CON", "x" * 300, "\u202e\n", "a/b", "-."]
    framework = Framework("f", "F", "1", "https://f", "2026-01-01", tuple(Control(name, "t", ()) for name in names))
    files = [file for file, _ in packs.control_files(framework)]
    assert files[0] == "controls/01-SC-28-3.csv"
    assert len({file.lower() for file in files}) == len(names)
    assert all(SAFE_NAME.fullmatch(file) for file in files)
