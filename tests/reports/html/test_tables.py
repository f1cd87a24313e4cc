"""The tables of the reports: what fits in the file, quoting, and the rows of changes."""

from __future__ import annotations

import base64
import json
import random
import shlex
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.html.filters import visible
from reports.html.labels import VOCABULARIES
from reports.html.overview_report import OverviewReport, statements
from reports.html.tables import DATA_BYTES, TOP, DataTable, PageState, packed, specifications, sql_command


def unpacked(chunk: str) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(zlib.decompress(base64.b64decode(chunk)))
    return rows


def table(name: str, rows: list[list[Any]], page: PageState) -> DataTable:
    return DataTable(name, specifications()[name], ("severity", "change"), rows, len(rows) + 7, page)


def test_rows_that_do_not_fit_are_left_out_from_the_end() -> None:
    """However long the rows are, the file stays below its limit, holds the first rows, and counts the others."""
    names = OverviewReport.tables
    page = PageState(sum(specifications()[name]["share"] for name in names), frozenset())
    source = random.Random(7)  # noqa: S311 - test data
    rows = [["high", source.randbytes(500).hex()] for _ in range(3000)]
    tables = [table(name, rows, page) for name in names]
    sizes = []
    for one in tables:
        kept = [row for chunk in one.chunks for row in unpacked(chunk)]
        assert kept == rows[: one.embedded]
        assert TOP <= one.embedded < len(rows)
        sizes.append(sum(map(len, one.chunks)))
    assert 0.9 * DATA_BYTES < sum(sizes) <= DATA_BYTES


def test_a_table_uses_the_room_that_earlier_tables_left() -> None:
    """A report with few findings has room for more keys."""
    source = random.Random(7)  # noqa: S311 - test data
    rows = [["high", source.randbytes(500).hex()] for _ in range(3000)]
    links: frozenset[str] = frozenset()
    alone, after_others = PageState(100, links), PageState(100, links)
    assert len(table("findings", rows[:10], after_others).chunks) == 1
    without, with_room = table("changes", rows, alone), table("changes", rows, after_others)
    assert len(without.chunks) < len(with_room.chunks)
    assert TOP <= without.embedded < with_room.embedded < len(rows)


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(-5, 5), st.text()), min_size=1, max_size=3), max_size=5))
def test_packed_rows_are_the_rows_with_visible_text(rows: list[list[Any]]) -> None:
    """Every value survives; only invisible characters are written out; nothing in the data can end an element."""
    chunk = packed(rows)
    assert not set(chunk) & set("<>&")
    for row, unpacked_row in zip(rows, unpacked(chunk), strict=True):
        for value, result in zip(row, unpacked_row, strict=True):
            assert result == (visible(value) if isinstance(value, str) else value)


@given(st.text(st.characters(codec="ascii", exclude_characters="\0")))
def test_commands_are_quoted_for_a_shell(sql: str) -> None:
    """A shell passes the query as one argument, whatever is in it."""
    command = sql_command(sql)
    assert shlex.split(command) == ["kmsledger", "sql", sql]
    if not command.endswith("'"):
        assert not set(command) & set("$`\\!")


@pytest.mark.parametrize(
    ("before", "sentences"),
    [
        (
            '[{"Action":["kms:decrypt","kms:reencrypt*"],"Effect":"Allow","Principal":{"AWS":["111122223333"]},"Sid":"Use"}]',
            "Use: Allow 111122223333: kms:Decrypt, kms:ReEncrypt*",
        ),
        (
            """[{"NotAction": "kms:*", "Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:role/a"},
            "Condition": {"Bool": {"kms:GrantIsForAWSResource": ["true"]}}},
            {"Effect": "Allow", "Principal": "*", "Action": "*"}]""",
            """Deny everyone except arn:aws:iam::111122223333:role/a: all except kms:* if kms:GrantIsForAWSResource Bool true
Allow *: *""",
        ),
        ("Enabled", "Enabled"),
        ("[{broken", "[{broken"),
        (None, None),
    ],
)
def test_a_changed_policy_is_written_as_sentences(before: str | None, sentences: str | None) -> None:
    """Each statement is a line; actions are written as AWS writes them; any other value stays as it is."""
    assert statements(before) == sentences


def test_a_public_party_is_named_once() -> None:
    """The party of public access is called Everyone, so that its kind has another label; the kinds are those of all parties."""
    assert ["mark", "kind", {"v": "external_party"}] in specifications()["external_access"]["columns"][0][3]
    kinds, parties = VOCABULARIES["external_party"], VOCABULARIES["party"]
    assert set(kinds) == set(parties)
    assert kinds["public"] == ("Public", parties["public"][1])
    assert parties["public"][0] == "Everyone"
