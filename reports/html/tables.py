"""The tables of the reports: the first rows as HTML, and all rows as compressed data that `report.js` renders in pages.

`tables.json` declares each table: its columns with the parts of their cells, the details of its rows, its facets, and the query
that prints every row. `report.js` renders cells and details as `cell` and `details` do; a test compares the two.
"""

from __future__ import annotations

import base64
import re
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

import orjson
from markupsafe import Markup, escape

from reports.html.filters import needs_care, prose, visible
from reports.html.labels import VOCABULARIES
from reports.mart.rows import Row

TOP: Final = 25
"""The rows of a table that are readable without scripts, and the rows of a page of the table."""
_CHUNK: Final = 500
"""The rows that are compressed together: the browser unpacks one chunk in a few milliseconds."""
DATA_BYTES: Final = 4_200_000
"""The maximum size of the compressed rows of a report. With the HTML around them, it stays below 5 MB."""


_UNSAFE: Final = re.compile(r'["$`\\!]')
"""The characters with a meaning in double quotes of a shell."""


@dataclass
class PageState:
    """The room for the compressed rows of a report, and its anchors. A table can use its share and what earlier ones left."""

    shares: int
    links: frozenset[str]
    """The targets of links on the page: tables, and the kinds of things that have a row."""
    spare: int = 0
    anchors: set[str] = field(default_factory=set)

    def room(self, share: int) -> int:
        """The room for the next table."""
        return self.spare + DATA_BYTES * share // self.shares

    def used(self, share: int, size: int) -> None:
        """A table with this share used `size` bytes."""
        self.spare = self.room(share) - size


@dataclass
class DataTable:
    """A table of a report: `total` rows exist, and `rows` holds the most important of them, in the order of `fields`."""

    name: str
    spec: dict[str, Any]
    fields: tuple[str, ...]
    rows: list[list[Any]]
    total: int
    page: PageState
    sql: str = ""
    _embedded: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.sql = self.sql or self.spec["sql"]

    @cached_property
    def columns(self) -> list[list[Any]]:
        """The columns: slug, label, CSS class and parts of a cell; without the optional ones that have no value."""
        return [column for column in self.spec["columns"] if column[2] != "optional" or self._has_values(column)]

    def _has_values(self, column: Sequence[Any]) -> bool:
        at = self.fields.index(column[3][0][1])
        return any(row[at] is not None for row in self.rows)

    def link_to(self, table: DataTable, kind: str, name: str) -> DataTable:
        """Link each row without a link to the row of another table that has its value of the field ``name``; returns itself.

        Finding a value in the rows of a page is cheaper than in a mart of millions, and the link never misses its row.
        """
        place, own, other = (
            self.fields.index("place"),
            self.fields.index(name),
            table.fields.index(table.spec["ids"][kind]),
        )
        listed = {row[other] for row in table.rows}
        for row in self.rows:
            if row[place] is None and row[own] in listed:
                row[place] = f"{kind}-{row[own]}"
        return self

    @property
    def top(self) -> list[Row]:
        """The first rows by field."""
        return [dict(zip(self.fields, row, strict=True)) for row in islice(self.rows, TOP)]

    @cached_property
    def chunks(self) -> list[str]:
        """The rows as JSON, deflated and in base64, as far as there is room; the first rows are always included."""
        room, chunks, start, size = self.page.room(self.spec["share"]), [], 0, _CHUNK
        while start < len(self.rows):
            chunk = packed(self.rows[start : start + size])
            if len(chunk) > room and size > TOP:
                size = max(TOP, size // 2)  # what still fits
                continue
            if len(chunk) > room and start:
                break
            room -= len(chunk)
            chunks.append(chunk)
            start += size
        self._embedded = min(start, len(self.rows))
        self.page.used(self.spec["share"], sum(map(len, chunks)))
        return chunks

    @property
    def embedded(self) -> int:
        """The number of rows in the file."""
        return self._embedded if self.chunks else 0

    @property
    def description(self) -> str:
        """What `report.js` needs to know about the table, as JSON."""
        used = {part[2]["v"] for column in self.columns for part in column[3] if len(part) > 2 and "v" in part[2]}
        vocabularies = {name: VOCABULARIES[name] for name in sorted(used)}
        keys = ("noun", "facets", "ids", "summary", "details")
        known = {key: self.spec[key] for key in keys if key in self.spec}
        return orjson.dumps(
            {
                **known,
                "columns": self.columns,
                "fields": self.fields,
                "total": self.total,
                "words": vocabularies,
                "links": sorted(self.page.links),
            }
        ).decode()

    def anchors(self, row: Row) -> list[str]:
        """The anchors of a row: the names that links use, each once on the page."""
        names = (f"{kind}-{row[name]}" for kind, name in self.spec["ids"].items() if row[name])
        new = [name for name in names if name not in self.page.anchors and not re.search(r"\s", name)]
        self.page.anchors.update(new)
        return new

    @property
    def command(self) -> str:
        """The command that prints every row: a query, unless the table names another one."""
        return str(self.spec.get("command") or sql_command(self.sql))

    def cell(self, column: Sequence[Any], row: Row) -> Markup:
        """The HTML of a cell."""
        return Markup(" ").join(filter(None, self._parts(column[3], row)))

    def _parts(self, parts: Iterable[Sequence[Any]], row: Row) -> Iterator[Markup]:
        shown: set[str] = set()
        for style, name, *options in parts:
            value, option = row[name], options[0] if options else {}
            if style in ("arn", "under") and str(value) in shown:
                continue
            shown.add(str(value))
            html = _part(style, value, option)
            target = row.get(option.get("at", ""))
            to = link(option.get("to", ""), str(target)) if html and target is not None else ""
            if to and re.split("[-&]", to)[0] in self.page.links:
                html = Markup('<a href="#{}">{}</a>').format(to, html)
            yield html

    def summary(self, row: Row) -> str | None:
        """The line that opens the details of a row; None if it has none."""
        return row[self.spec["summary"]] if "summary" in self.spec else None

    def details(self, row: Row) -> Markup:
        """The HTML of the details of a row; empty if it has none."""
        return Markup("").join(_details(self.spec.get("details", ()), row))


def packed(rows: list[list[Any]]) -> str:
    """Rows as JSON, deflated and in base64; invisible characters are written out."""
    text = orjson.dumps(rows)
    if needs_care(text):
        text = orjson.dumps(_visible(rows))
    return base64.b64encode(zlib.compress(text, 6)).decode()


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    return [_visible(item) for item in value] if isinstance(value, list | tuple) else value


def _part(style: str, value: Any, option: dict[str, str]) -> Markup:
    if value is None or value == "":
        return Markup('<span class="unknown-value">unknown</span>') if style in ("number", "value") else Markup()
    words = VOCABULARIES.get(option.get("v", ""), {})
    if style == "bar":
        return bar(value, words)
    text = visible(str(value))
    label, kind = words.get(text, (text, text))
    renderer = _STYLES.get(style)
    if renderer:
        return renderer(label, kind, value)
    return Markup('<span class="{}">{}</span>').format(style, label)


def link(to: str, target: str) -> str:
    """The fragment of a link: to a row (`key`, `rule`), or to the rows of a table with a value (`findings&rule_id=`)."""
    return to + ("" if to.endswith("=") or not to else "-") + quote(visible(target), safe="!'()*~")


def sql_command(sql: str) -> str:
    """The command that prints the rows of a query, quoted for a shell."""
    return "kmsledger sql " + (shlex.quote(sql) if _UNSAFE.search(sql) else f'"{sql}"')


def bar(counts: Sequence[int], words: dict[str, tuple[str, str]]) -> Markup:
    """A stacked bar: counts in the order of the vocabulary. Numbers that do not fit are in its label and in the columns."""
    total = sum(counts)
    if not total:
        return Markup('<span class="soft">none</span>')
    named = [(label, kind, count) for (label, kind), count in zip(words.values(), counts, strict=True) if count]
    label = ", ".join(f"{label} {count:,}" for label, _, count in named)
    segments = Markup().join(
        Markup('<i class="c-{}" style="flex:{}" title="{}: {}">{}</i>').format(
            kind, count, label, f"{count:,}", f"{count:,}" if count * 100 > total * 9 else ""
        )
        for label, kind, count in named
    )
    return Markup('<span class="bar" role="img" aria-label="{}">{}</span>').format(label, segments)


def findings_command(status: str, rules: Sequence[str]) -> str:
    """The command that prints the findings of rules with a status."""
    listed = ", ".join(f"'{rule}'" for rule in rules)
    return sql_command(f"SELECT * FROM findings WHERE status = '{status}' AND rule_id IN ({listed})")


def shares(counts: Mapping[str, int], vocabulary: str) -> Markup:
    """The bar of counts by code."""
    words = VOCABULARIES[vocabulary]
    return bar([counts.get(code, 0) for code in words], words)


_STYLES: Final[dict[str, Callable[[str, str, Any], Markup]]] = {
    "text": lambda label, _kind, _value: escape(label),
    "value": lambda label, _kind, _value: escape(label),
    "b": lambda label, _kind, _value: Markup("<b>{}</b>").format(label),
    "number": lambda _label, _kind, value: escape(f"{value:,}"),
    "mark": lambda label, kind, _value: Markup('<span class="mark {}">{}</span>').format(kind, label),
    "class": lambda label, kind, _value: Markup('<i class="dot c-{}"></i> {}').format(kind, label),
    "outcome": lambda label, kind, value: Markup('<span class="outcome o-{}">{}</span>').format(
        "partial" if "gap" in str(value) else kind, label
    ),
    "prose": lambda label, _kind, _value: prose(label),
    "todo": lambda label, _kind, _value: Markup('<span class="todo"><b>How to fix it</b> {}</span>').format(
        prose(label)
    ),
}


def _details(parts: Iterable[Sequence[Any]], row: Row) -> Iterator[Markup]:
    headed = ""
    for kind, title, name, *options in parts:
        value = row[name]
        if not value:
            continue
        if title and title != headed:
            yield Markup("<h3>{}</h3>").format(title)
        headed = title
        if kind in ("facts", "advice"):
            written = prose if kind == "advice" else visible
            items = (Markup("<dt>{}</dt><dd>{}</dd>").format(label, written(text)) for label, text in value)
            yield Markup('<dl class="grid">{}</dl>').format(Markup().join(items))
        elif kind == "table":
            head = Markup().join(Markup('<th scope="col">{}</th>').format(label) for label in options[0])
            body = Markup().join(
                Markup("<tr>{}</tr>").format(
                    Markup().join(Markup("<td>{}</td>").format(visible(text or "none")) for text in line)
                )
                for line in value
            )
            yield Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)
        elif kind == "more":
            sql, key = options
            command = sql_command(sql.replace("?", "'{}'".format(str(row[key]).replace("'", "''"))))
            yield Markup('<p class="cut">{:,} more: <code>{}</code></p>').format(value, visible(command))
        elif kind == "pre":
            yield Markup("<pre>{}</pre>").format(visible(value))
        else:
            yield Markup('<p class="soft">{}</p>').format(visible(value))


@cache
def specifications() -> dict[str, dict[str, Any]]:
    """The declared tables by name."""
    tables: dict[str, dict[str, Any]] = orjson.loads(
        resources.files("reports.html").joinpath("tables.json").read_bytes()
    )
    return tables
