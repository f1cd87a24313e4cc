"""`kmsledger export findings`: defaults, filters, complete files, and wrong usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from models.errors import UserError
from reports.exports import asff, csv_jsonl, ocsf, sarif
from reports.rules.findings import FindingRecord
from tests.reports.exports.conftest import PAY, SHOP
from tests.reports.exports.strategies import lines


def rows(output: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines(output)]


def test_passes_are_not_exported_by_default(run: Any, everything: list[FindingRecord]) -> None:
    """The default exports failed, unknown, waived and resolved findings; `all` exports all; SARIF omits resolved ones."""
    sent = rows(run("jsonl", "--rule", "key-rotation").stdout)
    names = {(row["resource_arn"].rpartition("/")[2], row["status"]) for row in sent}
    assert names == {
        ("off", "fail"),
        ("late", "fail"),
        ("accepted", "waived"),
        ("unseen", "waived"),
        ("dark", "unknown"),
        ("again", "pass"),
        ("stopped", "not_applicable"),
    }
    assert len(rows(run("jsonl", "--status", "all").stdout)) == len(everything)
    log = orjson.loads(run("sarif", "--rule", "key-rotation").stdout)
    assert {one["kind"] for one in log["runs"][0]["results"]} == {"fail", "open"}
    only = rows(run("ocsf", "--rule", "key-rotation", "--status", "resolved").stdout)
    assert {one["activity_name"] for one in only} == {"Close"}


def test_passes_are_those_of_former_problems_and_a_note_says_so(run: Any) -> None:
    """The mart only counts results that never were a problem: a list of passes says that it lacks them."""
    done = run("jsonl", "--rule", "key-rotation", "--status", "pass")
    assert {row["resource_arn"].rpartition("/")[2] for row in rows(done.stdout)} == {"again"}
    assert "only former problems are listed; `kmsledger rules run RULE` lists every result" in done.stderr
    assert "former problems" not in run("jsonl", "--status", "fail").stderr


def test_filters(run: Any) -> None:
    """Account, severity, status and rule narrow the export; one that does not exist is a usage error."""
    sent = rows(run("jsonl", "--account", SHOP, "--severity", "medium", "--status", "fail").stdout)
    assert sent
    assert {row["account_id"] for row in sent} == {SHOP}
    assert {row["status"] for row in sent} == {"fail"}
    assert {row["severity"] for row in sent} <= {"critical", "high", "medium"}
    for noun, listing in (
        ("rule", "rules list"),
        ("family", "rules list"),
        ("account", 'sql "SELECT account_id, name FROM accounts"'),
    ):
        error = run("jsonl", f"--{noun}", "no-such").exception
        assert isinstance(error, UserError)
        assert error.exit_code == 2
        assert str(error) == f"there is no {noun} 'no-such' in the mart: `kmsledger {listing}` lists them"


@pytest.mark.parametrize("form", ["ocsf", "asff", "sarif", "csv", "jsonl"])
def test_a_file_is_what_standard_output_is(run: Any, tmp_path: Path, form: str) -> None:
    """--output writes the same complete content, and a summary goes to standard error."""
    file = tmp_path / f"findings.{form}"
    done = run(form, "--output", str(file))
    assert done.exception is None, done.exception
    assert file.read_bytes().decode() == run(form).stdout
    assert "of run 2" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_batches_are_by_account_and_region(run: Any) -> None:
    """Each account and region has its own lines; one Security Hub has a single account and region."""
    account_regions = [line["Findings"][0]["ProductArn"] for line in rows(run("asff").stdout)]
    assert len(set(account_regions)) == len(account_regions)
    assert {PAY, SHOP} <= {arn.split(":")[4] for arn in account_regions}
    central = rows(run("asff", "--security-hub", "999900001111/eu-central-1").stdout)
    assert {one["AwsAccountId"] for line in central for one in line["Findings"]} == {"999900001111"}


def test_names_stay_from_night_to_night(run: Any) -> None:
    """As of the first run the same findings have the same ids, with the facts of that run."""
    now = {row["uid"]: row for row in rows(run("jsonl", "--rule", "key-rotation").stdout)}
    then = rows(run("jsonl", "--rule", "key-rotation", "--as-of", "1").stdout)
    again = next(row for row in then if row["resource_arn"].endswith(f"{SHOP}:key/again"))
    assert (again["status"], again["run_id"], now[again["uid"]]["status"]) == ("fail", 1, "pass")


def test_wrong_usage(run: Any, tmp_path: Path) -> None:
    """An invalid Security Hub, a Security Hub for another format, an unknown format and a missing directory are errors."""
    assert run("asff", "--security-hub", "here").exit_code == 2
    assert run("csv", "--security-hub", "999900001111/eu-central-1").exit_code == 2
    assert run("xml").exit_code == 2
    done = run("csv", "--output", str(tmp_path / "none" / "x.csv"))
    assert isinstance(done.exception, UserError)


@pytest.mark.parametrize("write", [ocsf.write, asff.write, sarif.write, csv_jsonl.csv, csv_jsonl.jsonl])
def test_findings_are_streamed(write: Any, everything: list[FindingRecord], run_info: Any) -> None:
    """Every format writes findings as it reads them, with at most one batch in memory."""
    written = 0

    class Out:
        def write(self, text: str) -> None:
            nonlocal written
            written += len(text)

        def writelines(self, lines: Any) -> None:
            for line in lines:
                self.write(line)

    def slow() -> Any:
        for number in range(1_000):
            if number == 500:
                assert written > 10_000
            yield everything[0]

    records = slow()
    write(Out(), run_info, records)
    assert next(records, None) is None
