"""Checks responses where they enter: type and range of every member, as botocore's output shapes declare them.

An invalid member affects nothing but itself: its structure becomes an :class:`InvalidStructure`, which raises
:class:`AwsError` when that member is read. The item that needs the member is then a gap; its neighbors are not.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import botocore.parsers
from botocore.model import ListShape, MapShape, Shape, StructureShape

from crawler.aws.errors import AwsError
from crawler.spec import Operation, Scope, search
from models.tables.runs import Cause

Converter = Callable[[Any], Any]
"""Returns a value in the type of its shape; raises :class:`_InvalidError`."""

TEXT_LIMIT = 262_144
"""Characters; the longest text that the crawler reads is an IAM policy, percent-encoded, with at most 131,072."""
IDENTIFIER_LIMIT = 1024
"""Characters; a longer ARN would not fit into the indexes of PostgreSQL."""
EPOCH_YEAR = 1970
REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d{1,2}")
"""A region name, which becomes part of the endpoints that are called."""

PARSE_ERRORS = (
    botocore.parsers.ResponseParserError,
    AttributeError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of botocore's parsers for bodies that AWS did not send, such as the page of a proxy."""


INVALID_ITEM = (AwsError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""Errors of recording an item: an invalid or missing member, or a document that cannot be decoded."""


class _InvalidError(Exception):
    """A value does not have the type of its shape; the message says what it is instead."""


class _Unreadable:
    """Stands for a value that has no type of the API; JSON encoders reject it."""


UNREADABLE = _Unreadable()


class InvalidStructure(dict[str, Any]):
    """A structure with invalid members. Reading one of them raises :class:`AwsError`; the others are as usual."""

    def __init__(
        self, valid: Mapping[str, Any], errors: Mapping[str, AwsError], default: AwsError | None = None
    ) -> None:
        # Never empty: the structure must not be taken for one without members.
        super().__init__({**valid, **dict.fromkeys(errors, UNREADABLE), **({"": UNREADABLE} if default else {})})
        self._errors = errors
        self._default = default

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member, or the default if it is absent."""
        error = self._errors.get(name, self._default)
        if error is not None:
            raise error
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        error = self._errors.get(name, self._default)
        if error is not None:
            raise error
        return super().__getitem__(name)


def invalid_response(operation: Operation | str, reason: str) -> AwsError:
    """Return the error of a response that contradicts the API."""
    return AwsError(Cause.INVALID_RESPONSE, "InvalidResponse", f"the response of {operation} is invalid: {reason}")


def response_validator(operation: str, shape: Shape | None, *, wire_names: bool) -> Callable[[Any], dict[str, Any]]:
    """Return a function that validates a response and converts its timestamps.

    Members have their names on the wire, or those of the model.
    """
    convert = _compile(shape, _Compiler(operation, wire_names)) if shape is not None else lambda _value: {}

    def validate(value: Any) -> dict[str, Any]:
        try:
            response: dict[str, Any] = convert(value)
        except _InvalidError as error:
            raise invalid_response(operation, f"it is {error}") from error
        return response

    return validate


def tolerant_parser(protocol: str) -> Any:
    """Return botocore's parser of a protocol as a class that replaces unreadable values by ``UNREADABLE``.

    botocore's own fails as a whole, or returns False for the text "maybe" and an empty list for a text.
    """
    base: Any = botocore.parsers.PROTOCOL_PARSERS[protocol]

    def parse_shape(self: Any, shape: Shape, node: Any) -> Any:
        if not _fits(shape.type_name, node):
            return UNREADABLE
        try:
            return base._parse_shape(self, shape, node)  # noqa: SLF001 - botocore has no public hook for one value
        except PARSE_ERRORS:
            return UNREADABLE

    def initialize(self: Any, *_: Any, **__: Any) -> None:
        # The validator converts timestamps.
        base.__init__(self, timestamp_parser=lambda text: text)

    return type(f"Tolerant{base.__name__}", (base,), {"_parse_shape": parse_shape, "__init__": initialize})


def without_long_texts(value: Any) -> Any:
    """Return a parsed body with texts above the limit replaced by ``UNREADABLE``."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT else UNREADABLE
    if isinstance(value, dict):
        return {name: without_long_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_long_texts(item) for item in value]
    return value


def items_of(operation: Operation, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the items of a page; raises :class:`AwsError` when the response lacks the list, which is not an empty list."""
    path = operation.items
    if not path:
        return [page]
    root = path.split("[", maxsplit=1)[0].split(".")[0]
    listed = page.get(root)
    if listed is None:
        raise invalid_response(operation, f"it has no {root}")
    if path == root or not isinstance(listed, list):
        items = search(path, page)
        if items is None:
            # CloudFront omits an empty list, and counts the items of every list.
            if search(f"{root}.Quantity", page) != 0:
                raise invalid_response(operation, f"it has no {path.split('[', maxsplit=1)[0]}")
            return []
        return items if isinstance(items, list) else [items]
    selected: list[Mapping[str, Any]] = []
    for item in listed:
        # One by one: an item with an invalid member does not affect the others.
        try:
            selected += search(path, {root: [item]}) or ()
        except AwsError as error:
            selected.append(InvalidStructure({}, {}, error))
    return selected


def as_error(operation: Operation, error: Exception) -> AwsError:
    """Return an error of recording an item as an invalid response."""
    if isinstance(error, AwsError):
        return error
    reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return invalid_response(operation, reason)


def require(operation: Operation, item: Mapping[str, Any]) -> None:
    """Raise :class:`AwsError` if an item lacks a member that AWS always returns."""
    for path in operation.requires:
        optional, _, _ = path.rpartition("?")
        name = path.replace("?", "")
        if optional and search(optional, item) is None:
            continue
        if search(name, item) in (None, "", [], {}):
            raise invalid_response(operation, f"it has no {name}")


def check_arn(operation: Operation, arn: str, prefix: str) -> str:
    """Return the ARN of an item; raises :class:`AwsError` unless it belongs to what was requested."""
    if not arn.startswith(prefix) or len(arn) == len(prefix):
        raise invalid_response(operation, f"{arn[:IDENTIFIER_LIMIT]!r} does not start with {prefix}")
    return check_identifier(operation, arn)


def check_identifier(operation: Operation, identifier: str) -> str:
    """Return a name or id that identifies an item; raises :class:`AwsError` if it cannot be one."""
    if not 0 < len(identifier) <= IDENTIFIER_LIMIT or not identifier.isprintable():
        raise invalid_response(operation, f"{identifier[:100]!r} is not an identifier")
    return identifier


def arn_prefix(scope: Scope, service: str) -> str:
    """Return how the ARNs of a service begin in a scope."""
    return f"arn:{scope.partition}:{service}:{scope.region}:{scope.account_id}:"


def _fits(kind: str, node: Any) -> bool:
    """Return whether a node of a parsed body can hold a value of this kind."""
    is_container = kind in {"structure", "list", "map"}
    if node is None:
        return True
    if isinstance(node, dict):
        return kind in {"structure", "map"}
    if isinstance(node, list):
        # In XML, also a repeated element, as in flattened lists and maps.
        return kind in {"list", "map"}
    if hasattr(node, "tag"):
        text = (node.text or "").strip()
        if is_container:
            return not text
        return len(node) == 0 and (kind != "boolean" or text in {"true", "false"})
    return not is_container


class _Compiler:
    def __init__(self, operation: str, wire_names: bool) -> None:
        self.operation = operation
        self.wire_names = wire_names
        self.structures: dict[str, Converter] = {}
        """Converters by name of the structure, which may contain itself."""


def _compile(shape: Shape, compiler: _Compiler) -> Converter:
    if isinstance(shape, StructureShape):
        return compiler.structures.get(shape.name) or _structure(shape, compiler)
    if isinstance(shape, ListShape):
        plain = _PLAIN.get(shape.member.type_name)
        if plain is not None:
            return partial(_plain_list, plain)
        return partial(
            _list, shape.member.type_name == "structure", compiler.operation, _compile(shape.member, compiler)
        )
    if isinstance(shape, MapShape):
        return partial(_map, _compile(shape.value, compiler))
    return _scalar(shape)


def _scalar(shape: Shape) -> Converter:
    kind = shape.type_name
    if kind in {"integer", "long"}:
        largest = 2 ** (31 if kind == "integer" else 63)
        return partial(_integer, int(shape.metadata.get("min", -largest)), largest)
    if kind in {"float", "double"}:
        return partial(_of_type, (int, float), "a number")
    if kind == "boolean":
        return partial(_of_type, (bool,), "true or false")
    if kind == "string":
        return partial(_of_type, (str,), "text")
    return _time if kind == "timestamp" else _unsupported


def _structure(shape: StructureShape, compiler: _Compiler) -> Converter:
    operation = compiler.operation
    members: dict[str, tuple[str, type | None, Converter]] = {}
    """Name in the model, type of values that need no conversion, and converter, by name in the response."""
    required = frozenset(shape.required_members)

    def convert(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            if isinstance(value, InvalidStructure):
                return value
            raise _InvalidError(f"{_kind(value)} instead of an object")
        if same_names and required <= value.keys():
            try:
                for name, raw in value.items():
                    _, plain, inner = members[name]
                    if type(raw) is not plain:
                        value[name] = inner(raw)
            except (KeyError, _InvalidError):
                pass
            else:
                return value
        return separate(value)

    def separate(value: dict[str, Any]) -> dict[str, Any]:
        """Return the structure without nulls and unknown members, which botocore omits too, and without invalid ones."""
        result: dict[str, Any] = {}
        errors: dict[str, AwsError] = {}
        for name, raw in value.items():
            member = members.get(name)
            if member is None or raw is None:
                continue
            title, _, inner = member
            try:
                result[title] = inner(raw)
            except _InvalidError as error:
                errors[title] = invalid_response(operation, f"{title} is {error}")
        for title in required - result.keys() - errors.keys():
            errors[title] = invalid_response(operation, f"it has no {title}")
        return InvalidStructure(result, errors) if errors else result

    compiler.structures[shape.name] = convert
    for title, member in shape.members.items():
        name = member.serialization.get("name", title) if compiler.wire_names else title
        members[name] = (title, _PLAIN.get(member.type_name), _compile(member, compiler))
    same_names = all(name == title for name, (title, _, _) in members.items())
    return convert


_PLAIN = {"string": str, "boolean": bool}


def _plain_list(expected: type, value: Any) -> list[Any]:
    if type(value) is not list:
        raise _InvalidError(f"{_kind(value)} instead of a list")
    for item in value:
        if type(item) is not expected:
            raise _InvalidError(f"a list that contains {_kind(item)}")
    return value


def _list(of_structures: bool, operation: str, inner: Converter, value: Any) -> list[Any]:
    if type(value) is not list:
        raise _InvalidError(f"{_kind(value)} instead of a list")
    if not of_structures:
        return [inner(item) for item in value]
    result = []
    for item in value:
        try:
            result.append(inner(item))
        except _InvalidError as error:
            # Only this item is lost.
            result.append(InvalidStructure({}, {}, invalid_response(operation, f"an item is {error}")))
    return result


def _map(inner: Converter, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _InvalidError(f"{_kind(value)} instead of an object")
    return {name: inner(item) for name, item in value.items()}


def _of_type(types: tuple[type, ...], expected: str, value: Any) -> Any:
    if type(value) not in types:
        raise _InvalidError(f"{_kind(value)} instead of {expected}")
    return value


def _integer(smallest: int, largest: int, value: Any) -> int:
    if type(value) is not int:
        raise _InvalidError(f"{_kind(value)} instead of an integer")
    if not smallest <= value < largest:
        raise _InvalidError(f"a number out of range: {float(value):.6g}")
    return value


_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
"""The usual time format in XML."""


def _time(value: Any) -> dt.datetime:
    """Return a time with its zone, between 1970 and 9999 in UTC."""
    try:
        if type(value) is float or type(value) is int:
            time = dt.datetime.fromtimestamp(value, dt.UTC)
        elif type(value) is str:
            time = dt.datetime.fromisoformat(value) if _UTC_TIME.fullmatch(value) else _other_time(value)
        elif type(value) is dt.datetime and value.tzinfo is not None:
            time = value.astimezone(dt.UTC)
        else:
            raise _InvalidError(f"{_kind(value)} instead of a time with a zone")
    except (OSError, OverflowError, ValueError) as error:
        raise _InvalidError("a time out of range or in an unknown format") from error
    if time.year < EPOCH_YEAR:
        raise _InvalidError(f"a time before {EPOCH_YEAR}")
    return time


def _other_time(text: str) -> dt.datetime:
    """Parse ISO 8601 with another zone (XML bodies) or RFC 5322 (headers)."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        time = email.utils.parsedate_to_datetime(text)
    if time.tzinfo is None:
        raise _InvalidError("a time without a zone")
    return time.astimezone(dt.UTC)


def _unsupported(value: Any) -> Any:
    raise _InvalidError(f"{_kind(value)} of a type that the crawler does not read")


def _kind(value: Any) -> str:
    """Return what a value is; never the value itself, which may be a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "unreadable")
