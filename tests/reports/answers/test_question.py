"""The access commands: output formats and exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from reports.answers.questions.denials import denials
from reports.answers.questions.vendors import vendors
from reports.answers.questions.what_can import what_can
from reports.answers.questions.who_can import who_can
from tests.reports.answers.sample_organization import SHOP


def run(command: click.Command, mart: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--mart", str(mart), *arguments], catch_exceptions=False)


def items(document: Any) -> list[tuple[Any, ...]]:
    """The items of a JSON document for which CSV has a row."""
    if "vendors" in document:
        return [(row["key_arn"], row["party"]) for row in document["vendors"]]
    if "denials" in document:
        return [(call["action"], call["subject"]) for denial in document["denials"] for call in denial["denied"]]
    result: list[tuple[Any, ...]] = []
    for key in document["keys"]:
        result += [(key["key_arn"], each["principal"], each["answer"]) for each in key.get("principals", ())]
        result += [(key["key_arn"], None, "unknown") for _ in key.get("unknown", ())]
        result += [(key["key_arn"], path["principal"], path["answer"]) for path in key.get("access_paths", ())]
    return result


@pytest.mark.parametrize(
    ("command", "arguments", "columns"),
    [
        (who_can, ("decrypt", "alias/shared"), ("key_arn", "principal", "answer")),
        (what_can, (SHOP,), ("key_arn", "principal", "answer")),
        (vendors, (), ("key_arn", "party")),
        (denials, (), ("action", "subject")),
    ],
)
def test_csv_has_a_row_per_item(
    mart_path: Path, command: click.Command, arguments: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    """CSV has a row for each nested item of the JSON document, including unknown items, and the same exit code."""
    as_json = run(command, mart_path, *arguments, "--format", "json")
    as_csv = run(command, mart_path, *arguments, "--format", "csv")
    rows = [
        tuple(row[name] or None for name in columns) for row in csv.DictReader(io.StringIO(as_csv.stdout, newline=""))
    ]
    assert rows == items(json.loads(as_json.stdout))
    assert rows or command is denials
    assert as_csv.stdout.startswith('"')
    assert as_csv.exit_code == as_json.exit_code
