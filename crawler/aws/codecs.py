"""Serializes requests and parses responses in the services' protocols, as defined by botocore's models.

Frequent responses are JSON: orjson parses them, and converters compiled once per operation apply the output shape. All
others go through botocore's own serializers and parsers.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

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
"""The usual time format in XML; botocore parses the others, a hundred times slower."""


@dataclass(frozen=True, slots=True)
class Request:
    """An unsigned request: path below the endpoint's path, canonical query, body, and headers."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A raw HTTP response; ``head`` holds the lines before the body as received."""

    status: int
    head: Sequence[bytes]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name, parsed on demand: a successful JSON response needs none."""
        headers: dict[str, str] = {}
        for line in self.head:
            if line.startswith(b"HTTP/"):
                # The lines before belong to a proxy or to a 100 Continue.
                headers.clear()
                continue
            name, separator, value = line.partition(b":")
            if separator:
                headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return headers


class Codec:
    """Serializes the requests and parses the responses of one operation."""

    def __init__(self, model: OperationModel) -> None:
        self._model = model
        service = model.service_model
        self._protocol = service.resolved_protocol
        self.json = self._protocol == "json"
        self.headers: Mapping[str, str] | None = None
        """The headers of all requests if these differ only in their body, as in the RPC protocols."""
        if self.json:
            version = service.metadata.get("jsonVersion", "1.0")
            self.headers = {
                "content-type": f"application/x-amz-json-{version}",
                "x-amz-target": f"{service.metadata['targetPrefix']}.{model.name}",
            }
            self._convert = _converter(model.output_shape, nulls=False)
            self._convert_nulls = _converter(model.output_shape, nulls=True)
            return
        if self._protocol in {"query", "ec2"}:
            self.headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        self._serializer = botocore.serialize.create_serializer(self._protocol, include_validation=False)
        parser: Any = botocore.parsers.PROTOCOL_PARSERS[self._protocol]
        self._parser = parser(timestamp_parser=_time)

    def request(self, params: Mapping[str, Any]) -> Request:
        """Return the request for these parameters."""
        if self.json:
            return Request("POST", "/", "", orjson.dumps(dict(params)), self.headers or {})
        serialized: Any = self._serializer.serialize_to_request(dict(params), self._model)
        if self.headers is not None:
            # The query protocols leave the form encoding to the sender.
            return Request("POST", "/", "", urlencode(serialized["body"]).encode(), self.headers)
        path, _, fixed = str(serialized["url_path"]).partition("?")
        query = dict(parse_qsl(fixed, keep_blank_values=True))
        query |= {name: _query_text(value) for name, value in serialized["query_string"].items()}
        headers = {name.lower(): str(value) for name, value in serialized["headers"].items()}
        body = serialized["body"] or b""
        encoded = body if isinstance(body, bytes) else body.encode()
        return Request(serialized["method"], path, canonical_query(query), encoded, headers)

    def parse(self, response: Response) -> dict[str, Any]:
        """Return the parsed response of a successful call; raises :class:`AwsError` if it cannot be parsed."""
        try:
            if self.json:
                body = response.body
                convert = self._convert_nulls if b"null" in body else self._convert
                converted: dict[str, Any] = convert(orjson.loads(body)) if body else {}
                return converted
            parsed = self._parse(response)
        except PARSE_ERRORS as error:
            raise AwsError(Cause.SERVICE_ERROR, "UnreadableResponse", f"{type(error).__name__}: {error}") from error
        parsed.pop("ResponseMetadata", None)
        return parsed

    def error(self, response: Response) -> tuple[str, str]:
        """Return code and message of an error response."""
        if self.json:
            return _json_error(response)
        try:
            error = self._parse(response).get("Error") or {}
        except PARSE_ERRORS:
            error = {}
        return str(error.get("Code") or response.status), str(error.get("Message") or "")

    def _parse(self, response: Response) -> dict[str, Any]:
        raw = {"status_code": response.status, "headers": _Headers(response.headers), "body": response.body}
        parsed: dict[str, Any] = self._parser.parse(raw, self._model.output_shape or _NO_OUTPUT)
        return parsed


class Codecs:
    """Creates and caches the codecs of a process."""

    def __init__(self, session: botocore.session.Session) -> None:
        self._session = session
        self._codecs: dict[tuple[str, str], Codec] = {}

    def of(self, operation: Operation) -> Codec:
        """Return the codec of an operation."""
        key = (operation.service, operation.name)
        codec = self._codecs.get(key)
        if codec is None:
            model = self._session.get_service_model(operation.service).operation_model(operation.name)
            codec = self._codecs[key] = Codec(model)
        return codec


PARSE_ERRORS = (
    botocore.parsers.ResponseParserError,
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)
"""Parser errors for bodies that AWS did not send, such as the page of a proxy, or for timestamps out of range."""

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
        """Return a header by name in any letter case."""
        return super().get(name.lower(), default)


def _json_error(response: Response) -> tuple[str, str]:
    try:
        body = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code") or str(response.status)
    code = str(code).partition(":")[0].rpartition("#")[2]
    return code, str(body.get("message") or body.get("Message") or "")


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Return the query string in canonical form, in which it is also sent."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _converter(shape: Shape | None, *, nulls: bool) -> Converter:
    if shape is None:
        return lambda _value: {}
    return _compile(shape, {}, nulls=nulls) or (lambda value: value)


def _compile(shape: Shape, compiled: dict[str, Converter], *, nulls: bool) -> Converter | None:
    """Return a function that converts JSON to the shape's types in place; ``None`` if nothing needs conversion.

    Without ``nulls`` the function is for JSON without null values, for which it does not check.
    """
    if shape.name in compiled:
        return compiled[shape.name]
    if isinstance(shape, StructureShape):
        return _structure(shape, compiled, nulls=nulls)
    if isinstance(shape, ListShape):
        return _list_of(_compile(shape.member, compiled, nulls=nulls))
    if isinstance(shape, MapShape):
        return _map_of(_compile(shape.value, compiled, nulls=nulls))
    if shape.type_name == "timestamp":
        return _time
    if shape.type_name == "blob":
        raise AwsError(Cause.REJECTED, "BinaryResponse", f"{shape.name} is binary data, which is not supported")
    return None


def _structure(shape: StructureShape, compiled: dict[str, Converter], *, nulls: bool) -> Converter:
    members: dict[str, tuple[str, Converter | None]] = {}
    converters: list[tuple[str, Converter]] = []

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        if names_match and value.keys() <= names:
            for name, inner in converters:
                if name in value:
                    value[name] = inner(value[name])
            return value
        result = {}
        for name, raw in value.items():
            member = members.get(name)
            # Omit unknown members and nulls, as botocore does.
            if member is None or raw is None:
                continue
            title, converter = member
            result[title] = raw if converter is None else converter(raw)
        return result

    compiled[shape.name] = convert
    for title, member in shape.members.items():
        inner = _compile(member, compiled, nulls=nulls)
        members[member.serialization.get("name", title)] = (title, inner)
        if inner is not None:
            converters.append((title, inner))
    names = members.keys()
    names_match = not nulls and all(name == title for name, (title, _) in members.items())
    return convert


def _list_of(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda value: [inner(item) for item in value]


def _map_of(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda value: {name: inner(item) for name, item in value.items()}


def _time(value: Any) -> dt.datetime:
    if type(value) is float or type(value) is int:
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if type(value) is str and ISO_TIME.fullmatch(value):
        return dt.datetime.fromisoformat(value)
    time: dt.datetime = botocore.parsers.DEFAULT_TIMESTAMP_PARSER(value)
    return time
