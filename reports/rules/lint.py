"""Static checks of a rule's query, on the syntax tree that DuckDB parses it into.

A rule reads the views and nothing else. The connection on which it runs has no access to files and network; what a
connection without them still offers (settings, secrets, the catalogs of other databases, temporary tables) is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb
import orjson

from reports.mart.view_loader import public_names

_Node = dict[str, Any]
_Problem = tuple[int, str]
"""Line and text."""
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree"})
_REFUSED_FUNCTIONS = re.compile(
    r"current_(?!date|time|localtime)\w+|get_?env\w*|get_?variable|setseed|setval|nextval|currval|write_log|sleep_ms|stats|user|version|"
    r"session_user|in_search_path|txid_current|pg_(?!typeof)\w+|has_\w+_privilege|json_serialize_plan|query|query_table"
)
"""Functions that return something other than facts, or have an effect."""


@cache
def parsed(query: str) -> _Node:
    """The syntax tree of one SELECT. Raises ValueError for a query that DuckDB cannot describe as one."""
    [(text,)] = _parser().cursor().execute("SELECT json_serialize_sql($1)", [query]).fetchall()
    tree: _Node = orjson.loads(text)
    if tree["error"]:
        raise ValueError(tree["error_message"])
    node: _Node = tree["statements"][0]["node"]
    return node


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def check_branches(query: str) -> Iterator[_Problem]:
    """Yield each ELSE with pass or fail."""
    for node, _ in _scoped(parsed(query)):
        otherwise = node.get("else_expr") or {}
        status = otherwise.get("function_name", "").lower()
        if status in {"pass", "fail"}:
            text = f"ELSE {status}(...): an unforeseen case must not {status}; test the condition, or end with ELSE unknown(...)"
            yield _line(query, otherwise), text


def check_sources(query: str) -> Iterator[_Problem]:
    """Yield whatever the query reads that is not a view of the mart."""
    for node, names in _scoped(parsed(query)):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            schema, table = node["schema_name"].lower(), node["table_name"].lower()
            known = schema == "internal" or (schema in {"", "main"} and table in public_names())
            if node["catalog_name"] or not (known or (not schema and table in names)):
                name = ".".join(node["qualified_name"]["path"])
                yield (
                    _line(query, node),
                    f"{name!r} is not a view of the mart: a rule reads only those (kmsledger schema)",
                )
        elif kind == "TABLE_FUNCTION":
            name, schema = node["function"]["function_name"].lower(), node["function"]["schema"].lower()
            of_view = name.endswith("_as_of") and (
                schema == "internal" or name.removesuffix("_as_of") in public_names()
            )
            if name not in _TABLE_FUNCTIONS and not of_view:
                yield (
                    _line(query, node),
                    f"a rule cannot call {name}: it reads only the views of the mart (kmsledger schema)",
                )
        elif kind == "SHOW_REF":
            yield _line(query, node), "a rule cannot describe tables: it reads only the views of the mart"
        elif kind == "FUNCTION" and _REFUSED_FUNCTIONS.fullmatch(node["function_name"].lower()):
            yield (
                _line(query, node),
                f"a rule cannot call {node['function_name'].lower()}: its result depends on facts only",
            )


def columns(query: str) -> list[str]:
    """The names of the query's columns, as far as it states them."""
    node = parsed(query)
    while node["type"] == "SET_OPERATION_NODE":
        node = node["left"] or node["children"][0]
    return [item["alias"] or item.get("column_names", [""])[-1] for item in node.get("select_list", ())]


def _scoped(tree: _Node) -> Iterator[tuple[_Node, frozenset[str]]]:
    """Yield every node with the names of the common table expressions that it can read: each reads only earlier ones."""
    pending: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
    while pending:
        value, names = pending.pop()
        if isinstance(value, list):
            pending += ((item, names) for item in reversed(value))
        elif isinstance(value, dict):
            for entry in value.get("cte_map", {}).get("map", ()):
                name, query_node = entry["key"].lower(), entry["value"]["query_node"]
                recursive = query_node["type"] == "RECURSIVE_CTE_NODE"
                pending.append((entry["value"], names | {name} if recursive else names))
                names |= {name}
            yield value, names
            pending += ((child, names) for key, child in reversed(value.items()) if key != "cte_map")


def _line(query: str, node: _Node) -> int:
    """The line of a node; DuckDB counts bytes, and has no position for some nodes."""
    text = query.encode()
    return text[: node["query_location"]].count(b"\n") + 1 if node["query_location"] < len(text) else 1
