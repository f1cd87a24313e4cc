"""The large tables of the reports: their columns, and the SQL that returns all rows of a limited table."""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import orjson


@dataclass(frozen=True)
class Column:
    """A column: `slug` is its name in links (`#keys&sort=-age`), `kind` its CSS class."""

    slug: str
    label: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    columns: tuple[Column, ...]
    sql: str


@cache
def tables() -> dict[str, Table]:
    """The tables by name, from table_columns.json; a column is its slug, label and kind."""
    text = resources.files("reports.html").joinpath("table_columns.json").read_bytes()
    return {
        name: Table(tuple(Column(*column) for column in table["columns"]), table["sql"])
        for name, table in orjson.loads(text).items()
    }
