"""A page as the tests read it: a tree of elements, and the tables of a report by name."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

BLOCKS = frozenset({"p", "div", "li", "td", "th", "tr", "dt", "dd", "h1", "h2", "h3", "h4", "summary", "details", "a"})
VOID = frozenset({"meta", "input", "wbr", "br", "img", "link"})


@dataclass
class Node:
    """An element with its attributes, its children and its text, in their order."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with white space as a browser collapses it."""
        return " ".join(self._raw().split())

    @property
    def classes(self) -> list[str]:
        """The classes."""
        return self.attributes.get("class", "").split()

    def _raw(self) -> str:
        inside = "".join(child if isinstance(child, str) else child._raw() for child in self.children)
        return f" {inside} " if self.tag in BLOCKS else inside

    def all(self, tag: str = "", **attributes: str) -> Iterator[Node]:
        """The elements inside, at any depth, with this tag and these attributes (`class_` for one class of them)."""
        remaining = [self]
        while remaining:
            node = remaining.pop()
            if (
                node is not self
                and (not tag or node.tag == tag)
                and all(_has(node, *one) for one in attributes.items())
            ):
                yield node
            remaining += [child for child in reversed(node.children) if isinstance(child, Node)]

    def one(self, tag: str = "", **attributes: str) -> Node:
        """The only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    def own(self, tag: str) -> list[Node]:
        """The children with this tag."""
        return [child for child in self.children if isinstance(child, Node) and child.tag == tag]

    def rows(self, name: str) -> list[Row]:
        """The rows of the table `name`, none if the page has no such table."""
        for table in self.all("table", data_name=name):
            bodies = table.own("tbody")
            units = bodies if "records" in table.classes else [row for body in bodies for row in body.own("tr")]
            return [Row(unit) for unit in units]
        return []

    def data(self, name: str) -> list[dict[str, Any]]:
        """All rows of the table `name` by field: the compressed rows that the browser shows in pages."""
        for block in self.all("div", data_name=name):
            fields = json.loads(block.one("template", class_="description").text)["fields"]
            chunks = [template.text for template in block.all("template", class_="rows")]
            rows = [row for chunk in chunks for row in json.loads(zlib.decompress(base64.b64decode(chunk)))]
            return [dict(zip(fields, row, strict=True)) for row in rows]
        return []


@dataclass
class Row:
    """A row of a table, with its collapsed details."""

    node: Node

    @property
    def cells(self) -> list[str]:
        """The text of each cell of the row without its details."""
        row = self.node if self.node.tag == "tr" else self.node.own("tr")[0]
        return [cell.text for cell in row.own("td")]

    @property
    def text(self) -> str:
        """All of its text."""
        return self.node.text


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.path = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.path[-1].children.append(node)
        if tag not in VOID:
            self.path.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.path[-1].tag == tag, f"</{tag}> closes <{self.path[-1].tag}>"
            self.path.pop()

    def handle_data(self, data: str) -> None:
        self.path[-1].children.append(data)


def read(html: str) -> Node:
    """Parse a page; every element in it must be closed where it was opened."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.path) == 1, f"<{reader.path[-1].tag}> is not closed"
    return reader.path[0]


def broken_links(page: Node) -> set[str]:
    """The links without a target: an element, a row of a table, or the facets of a table."""
    targets, fields = {node.attributes["id"] for node in page.all() if "id" in node.attributes}, {}
    for block in page.all("div", class_="table"):
        name = block.attributes["data-name"]
        description = json.loads(block.one("template", class_="description").text)
        fields[name] = set(description["facets"])
        targets |= {f"{kind}-{row[field]}" for kind, field in description["ids"].items() for row in page.data(name)}
    links = {unquote(node.attributes["href"]).removeprefix("#") for node in page.all("a")}
    assert links, "the page has no link"
    broken = set()
    for link in links - targets:
        name, *values = link.split("&")
        if not values or not {value.partition("=")[0] for value in values} <= fields.get(name, set()):
            broken.add(link)
    return broken


def _has(node: Node, name: str, value: str) -> bool:
    if name == "class_":
        return value in node.classes
    return node.attributes.get(name.replace("_", "-")) == value
