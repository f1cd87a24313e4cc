"""Reads the YAML of rule headers, examples and frameworks, with the lines of its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from models.settings.yaml_loader import TooLargeError, compose_all


class InvalidYamlError(Exception):
    """A text cannot be read; the message is the problem on its line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


class Lined(dict[str, Any]):
    """A mapping with its own line number and those of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


def _text(node: yaml.ScalarNode) -> Any:
    return node.value


def read_document(text: str) -> Any:
    """The only document of a text, or None if it is empty. Raises InvalidYamlError."""
    documents = read_documents(text)
    if len(documents) > 1:
        raise InvalidYamlError(1, "expected one YAML document")
    return documents[0] if documents else None


def read_documents(text: str, scalar: Callable[[yaml.ScalarNode], Any] = _text) -> list[Any]:
    """The documents of a text: mappings with lines, lists, and scalars as ``scalar`` reads them. Raises InvalidYamlError."""
    try:
        nodes = compose_all(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        limit = f": expected {error.note}" if isinstance(error, TooLargeError) else ""
        raise InvalidYamlError(line, f"not valid YAML: {error.problem}{limit}") from error
    values: dict[int, Any] = {}

    def value(node: yaml.Node) -> Any:
        if id(node) not in values:  # an alias is the same node
            values[id(node)] = convert(node)
        return values[id(node)]

    def convert(node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [value(item) for item in node.value]
        mapping = Lined(line)
        for key, inner in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidYamlError(line, "expected a text as the key")
            if key.value in mapping:
                first = mapping.lines[key.value]
                raise InvalidYamlError(line, f"{key.value!r} is already on line {first}: expected every key once")
            mapping[key.value] = value(inner)
            mapping.lines[key.value] = line
        return mapping

    return [value(node) for node in nodes]
