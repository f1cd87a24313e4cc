"""CSV and JSON Lines: every column of every finding, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.exports import csv_jsonl
from reports.exports.common import RunInfo, uid_of
from reports.mart.view_loader import views
from reports.rules.findings import FindingRecord
from tests.reports.exports.conftest import HOSTILE
from tests.reports.exports.strategies import RUN_INFO, findings, lines

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "exports.md"


def test_columns_are_the_views_and_documented() -> None:
    """Every column of the view is exported, with the texts of its rule, and each is documented."""
    (view,) = [one for one in views() if one.name == "findings"]
    assert set(view.columns) <= set(csv_jsonl.COLUMNS)
    assert {"why", "fix", "console", "cli", "terraform", "frameworks"} <= set(csv_jsonl.COLUMNS)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in csv_jsonl.COLUMNS if f"| `{name}` |" not in text] == []


def test_jsonl_is_what_was_found(everything: list[FindingRecord], run_info: RunInfo) -> None:
    """Each line is one finding with its own values; times are UTC, unknown values are null."""
    out = io.StringIO()
    csv_jsonl.jsonl(out, run_info, everything)
    rows = [orjson.loads(line) for line in lines(out.getvalue())]
    assert [row["resource_arn"] for row in rows] == [one.resource_arn for one in everything]
    assert [row["status"] for row in rows] == [one.status for one in everything]
    first = rows[0]
    assert first["run_started_at"] == "2026-11-21T03:00:00Z"
    assert first["uid"] == uid_of(everything[0])
    assert isinstance(first["frameworks"], list)
    assert all(row["waived_until"] is None for row in rows if row["waiver"] is None)


def test_csv_is_defused(everything: list[FindingRecord], run_info: RunInfo) -> None:
    """A name that is a formula becomes text, and control characters become escapes; account ids stay text."""
    out = io.StringIO()
    csv_jsonl.csv(out, run_info, everything)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == len(everything)
    shown = HOSTILE.encode("ascii", "backslashreplace").decode()
    assert {f"'{shown}"} == {row["owner"] for row in rows if row["account_id"] == "111122223333"}
    assert not [value for row in rows for value in row.values() if value.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert '"111122223333"' in out.getvalue()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(findings(), max_size=3))
def test_any_findings_can_be_read_again(found: list[FindingRecord]) -> None:
    """JSON Lines preserves any text; CSV has one row per finding and no formula."""
    written, table = io.StringIO(), io.StringIO(newline="")
    csv_jsonl.jsonl(written, RUN_INFO, found)
    csv_jsonl.csv(table, RUN_INFO, found)
    texts = [field.name for field in fields(FindingRecord) if field.type in {"str", "str | None"}]
    back = [orjson.loads(line) for line in lines(written.getvalue())]
    assert [[row[name] for name in texts] for row in back] == [[getattr(one, name) for name in texts] for one in found]
    table.seek(0)
    rows = list(csv.reader(table))[1:]
    assert len(rows) == len(found)
    assert not [value for row in rows for value in row if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
