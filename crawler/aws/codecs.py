"""Requests and answers in the services' own protocols: botocore's models say how.

Hot answers are JSON: they are read by orjson and converted by what the output shape says, compiled once per operation. All
others go through botocore's own serializers and parsers.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import botocore.parsers
import botocore.serialize
import botocore.session
import orjson
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from crawler.aws.errors import AwsError
from crawler.spec import Operation
from models.tables.runs import Cause

Converter = Callable[[Any], Any]
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
"""How services write times into XML; other ways are left to botocore, which takes a hundred times as long."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is signed: path without the endpoint's own, query parameters, body, and its own headers."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``head`` are the lines before the body, as they were sent."""

    status: int
    head: Sequence[bytes]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Values by lower-case names. Read when asked for: a good answer in JSON needs none of them."""
        found: dict[str, str] = {}
        for line in self.head:
            if line.startswith(b"HTTP/"):
                # What came before was of a proxy, or of a 100 Continue.
                found.clear()
                continue
            name, separator, value = line.partition(b":")
            if separator:
                found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return found


class Codec:
    """How one operation is written and read."""

    def __init__(self, model: OperationModel) -> None:
        self._model = model
        service = model.service_model
        self._protocol = service.resolved_protocol
        self.json = self._protocol == "json"
        if self.json:
            version = service.metadata.get("jsonVersion", "1.0")
            self.headers = {
                "content-type": f"application/x-amz-json-{version}",
                "x-amz-target": f"{service.metadata['targetPrefix']}.{model.name}",
            }
            self._convert = _converter(model.output_shape, nulls=False)
            self._convert_nulls = _converter(model.output_shape, nulls=True)
        else:
            self._serializer = botocore.serialize.create_serializer(self._protocol, include_validation=False)
            parser: Any = botocore.parsers.PROTOCOL_PARSERS[self._protocol]
            self._parser = parser(timestamp_parser=_time)

    def request(self, params: Mapping[str, Any]) -> Request:
        """The request that asks with these parameters."""
        if self.json:
            return Request("POST", "/", {}, orjson.dumps(dict(params)), self.headers)
        made: Any = self._serializer.serialize_to_request(dict(params), self._model)
        body = made.get("body") or b""
        query = made.get("query_string") or {}
        if isinstance(body, dict):
            # The query protocols leave the form's encoding to whoever sends it.
            from urllib.parse import urlencode

            body = urlencode(body).encode()
        path, _, fixed = str(made["url_path"]).partition("?")
        pairs = {name: _query_text(value) for name, value in query.items()} if isinstance(query, dict) else {}
        for pair in fixed.split("&") if fixed else ():
            name, _, value = pair.partition("=")
            pairs[name] = value
        headers = {name.lower(): str(value) for name, value in made.get("headers", {}).items()}
        return Request(made["method"], path, pairs, body if isinstance(body, bytes) else body.encode(), headers)

    def read(self, answer: Answer) -> dict[str, Any]:
        """The parsed answer of a call that succeeded; :class:`AwsError` when it cannot be understood."""
        try:
            if self.json:
                body = answer.body
                convert = self._convert_nulls if b"null" in body else self._convert
                read: dict[str, Any] = convert(orjson.loads(body)) if body else {}
                return read
            parsed = self._parse(answer)
        except UNREADABLE as error:
            raise AwsError(Cause.SERVICE_ERROR, "UnreadableAnswer", f"{type(error).__name__}: {error}") from error
        parsed.pop("ResponseMetadata", None)
        return parsed

    def error(self, answer: Answer) -> tuple[str, str]:
        """Code and message of an error answer."""
        if self.json:
            return _json_error(answer)
        try:
            described = self._parse(answer).get("Error") or {}
        except UNREADABLE:
            described = {}
        return str(described.get("Code") or answer.status), str(described.get("Message") or "")

    def _parse(self, answer: Answer) -> dict[str, Any]:
        described = {"status_code": answer.status, "headers": _Headers(answer.headers), "body": answer.body}
        parsed: dict[str, Any] = self._parser.parse(described, self._model.output_shape or _NO_OUTPUT)
        return parsed


class Codecs:
    """The codecs of one process, made when first needed."""

    def __init__(self, session: botocore.session.Session) -> None:
        self._session = session
        self._known: dict[tuple[str, str], Codec] = {}

    def of(self, operation: Operation) -> Codec:
        """The codec of a declared operation."""
        key = (operation.service, operation.name)
        found = self._known.get(key)
        if found is None:
            model = self._session.get_service_model(operation.service).operation_model(operation.name)
            found = self._known[key] = Codec(model)
        return found


UNREADABLE = (
    botocore.parsers.ResponseParserError,
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)
"""How parsing fails on a text that AWS never sent, such as a proxy's well-formed page, or on a time beyond all calendars."""

_NO_OUTPUT = StructureShape("NoOutput", {"type": "structure", "members": {}})


class _Headers(dict[str, str]):
    """Header names in any letter case, as botocore's parsers look them up."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """As a dictionary's."""
        return super().get(name.lower(), default)


def _json_error(answer: Answer) -> tuple[str, str]:
    try:
        body = orjson.loads(answer.body) if answer.body else {}
    except orjson.JSONDecodeError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = answer.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code") or str(answer.status)
    code = str(code).partition(":")[0].rpartition("#")[2]
    return code, str(body.get("message") or body.get("Message") or "")


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _converter(shape: Shape | None, *, nulls: bool) -> Converter:
    if shape is None:
        return lambda _value: {}
    return _compile(shape, {}, nulls=nulls) or (lambda value: value)


def _compile(shape: Shape, known: dict[str, Converter], *, nulls: bool) -> Converter | None:
    """A function that turns plain JSON into what the shape says, in place; ``None`` where there is nothing to turn.

    Without ``nulls`` it is for texts that hold no null, which it does not look for then.
    """
    if shape.name in known:
        return known[shape.name]
    if isinstance(shape, StructureShape):
        return _structure(shape, known, nulls=nulls)
    if isinstance(shape, ListShape):
        return _list_of(_compile(shape.member, known, nulls=nulls))
    if isinstance(shape, MapShape):
        return _map_of(_compile(shape.value, known, nulls=nulls))
    if shape.type_name == "timestamp":
        return _time
    if shape.type_name == "blob":
        raise AwsError(Cause.REJECTED, "BinaryAnswer", f"{shape.name} is binary data, which this program does not read")
    return None


def _structure(shape: StructureShape, known: dict[str, Converter], *, nulls: bool) -> Converter:
    members: dict[str, tuple[str, Converter | None]] = {}
    turned: list[tuple[str, Converter]] = []

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        if plain and value.keys() <= names:
            for name, inner in turned:
                if name in value:
                    value[name] = inner(value[name])
            return value
        result = {}
        for name, raw in value.items():
            member = members.get(name)
            # Members that the model does not know, and nulls, are left out, as botocore leaves them out.
            if member is None or raw is None:
                continue
            title, converter = member
            result[title] = raw if converter is None else converter(raw)
        return result

    known[shape.name] = convert
    for title, member in shape.members.items():
        inner = _compile(member, known, nulls=nulls)
        members[member.serialization.get("name", title)] = (title, inner)
        if inner is not None:
            turned.append((title, inner))
    names = members.keys()
    plain = not nulls and all(name == title for name, (title, _) in members.items())
    return convert


def _list_of(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda value: [inner(one) for one in value]


def _map_of(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda value: {name: inner(one) for name, one in value.items()}


def _time(value: Any) -> dt.datetime:
    if type(value) is float or type(value) is int:
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if type(value) is str and ISO_TIME.fullmatch(value):
        return dt.datetime.fromisoformat(value)
    found: dt.datetime = botocore.parsers.DEFAULT_TIMESTAMP_PARSER(value)
    return found
