"""Writes query results as a table, CSV or JSON. Results contain untrusted text, which is made safe for its reader."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TextIO

import orjson

from models.safe_text import escaped_json, printable, without_controls

Row = Sequence[Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MIN_COLUMN = 14  # narrower columns are hard to read as a table: rows are written as records instead
_JSON = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
_LINE = _JSON | orjson.OPT_APPEND_NEWLINE


def write_csv(out: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write CSV: texts in quotes (so that account IDs stay texts), lists as JSON, NULL as an empty field.

    A text that a spreadsheet would take for a formula gets a leading apostrophe. Control and direction characters, which a
    terminal or an editor would obey, become escapes.
    """
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([_csv_text(column) for column in columns])
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])


def write_json(out: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a JSON array with one object per row; times in ISO 8601 (UTC)."""
    names = list(_distinct(columns))
    separator = "[\n"
    for row in rows:
        text = orjson.dumps(dict(zip(names, map(_plain, row), strict=True)), default=str, option=_JSON).decode()
        out.write(separator + escaped_json(text))
        separator = ",\n"
    out.write("\n]\n" if separator != "[\n" else "[]\n")


def write_jsonl(out: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write JSON Lines: one object per row, as in :func:`write_json`, streamed."""
    names = list(_distinct(columns))
    out.writelines(
        escaped_json(orjson.dumps(dict(zip(names, map(_plain, row), strict=True)), default=str, option=_LINE).decode())
        for row in rows
    )


def write_table(out: TextIO, columns: Sequence[str], rows: Iterable[Row], limit: int, width: int | None = None) -> None:
    """Write a table for a terminal: at most `limit` rows, then the number of omitted rows.

    With a width (a terminal's) long values are folded, and rows that are too wide are written as records.
    """
    iterator = iter(rows)
    shown = [[_text(value) for value in row] for row in islice(iterator, limit)]
    more = sum(1 for _ in iterator)
    names = [printable(column) for column in columns]
    if width is not None and shown and _needed(names, shown) > width and width // len(names) < _MIN_COLUMN:
        _records(out, names, shown)
    elif width is not None:
        _rich_table(out, names, shown, width)
    else:
        _aligned(out, names, shown)
    if more:
        out.write(f"… {more} more row{'' if more == 1 else 's'} (--limit 0 shows all, --format csv too)\n")


def writer_of(form: str, limit: int) -> Callable[[TextIO, Sequence[str], Iterable[Row]], None]:
    """The writer of a format: table, csv, json or jsonl. A limit of 0 means no limit."""
    if form in _WRITERS:
        return _WRITERS[form]

    def table(out: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
        width = None
        if out.isatty():
            import shutil

            width = shutil.get_terminal_size().columns
        write_table(out, columns, rows, limit or sys.maxsize, width)

    return table


_WRITERS = {"csv": write_csv, "json": write_json, "jsonl": write_jsonl}


def _csv_text(text: str) -> str:
    safe = without_controls(text)
    return "'" + safe if safe.startswith(_FORMULA) else safe


def _csv_value(value: Any) -> Any:
    if value is None or (isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)):
        return value
    return _csv_text(_words(value))


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple | dict):
        return json.dumps(_plain(value), ensure_ascii=False, default=str)
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)  # DuckDB's 128-bit integers are beyond JSON's readers
    return value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return printable(", ".join(value))
    return "" if value is None else printable(_words(value))


def _distinct(columns: Sequence[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        yield column if seen[column] == 1 else f"{column}_{seen[column]}"


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _widths(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_cells, column)) for column in zip(names, *rows, strict=True)]


def _needed(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(names, rows)) + 2 * (len(names) - 1)


def _aligned(out: TextIO, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = _widths(names, rows)
    for row in (names, ["-" * width for width in widths], *rows):
        line = "  ".join(cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True))
        out.write(line.rstrip() + "\n")


def _records(out: TextIO, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    label = max(map(_cells, names))
    for number, row in enumerate(rows, start=1):
        out.write(f"-- row {number}\n")
        for name, cell in zip(names, row, strict=True):
            if cell:
                out.write(f"{name}{' ' * (label - _cells(name))}  {cell}\n")


def _rich_table(out: TextIO, names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=out, width=width, markup=False, highlight=False, emoji=False).print(table)
