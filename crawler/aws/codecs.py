"""Serializes requests and parses responses in the services' protocols, as defined by botocore's models.

Frequent responses are JSON, which orjson parses. All others go through botocore's own serializers and parsers. Then a
validator, compiled once per operation, applies the output shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import botocore.serialize
import botocore.session
import orjson
from botocore.model import OperationModel, StructureShape

from crawler.aws.errors import CODE_LIMIT, AwsError
from crawler.aws.response_validation import (
    PARSE_ERRORS,
    TEXT_LIMIT,
    response_validator,
    tolerant_parser,
    without_long_texts,
)
from crawler.spec import Operation
from models.tables.runs import Cause


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
        protocol = service.resolved_protocol
        self._json_request = protocol == "json"
        self._json_response = protocol == "json" or (protocol == "rest-json" and _is_body(model.output_shape))
        self._validate = response_validator(
            f"{service.service_name}:{model.name}", model.output_shape, wire_names=self._json_response
        )
        self.headers: Mapping[str, str] | None = None
        """The headers of all requests if these differ only in their body, as in the RPC protocols."""
        if self._json_request:
            version = service.metadata.get("jsonVersion", "1.0")
            self.headers = {
                "content-type": f"application/x-amz-json-{version}",
                "x-amz-target": f"{service.metadata['targetPrefix']}.{model.name}",
            }
            return
        if protocol in {"query", "ec2"}:
            self.headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        self._serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
        self._parser: Any = tolerant_parser(protocol)()

    def request(self, params: Mapping[str, Any]) -> Request:
        """Return the request for these parameters."""
        if self._json_request:
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
        """Return the validated response of a successful call; raises :class:`AwsError` if it cannot be parsed."""
        body = response.body
        try:
            parsed = (orjson.loads(body) if body else {}) if self._json_response else self._parse(response)
            if len(body) > TEXT_LIMIT:
                parsed = without_long_texts(parsed)
        except PARSE_ERRORS as error:
            raise AwsError(Cause.SERVICE_ERROR, "UnreadableResponse", f"{type(error).__name__}: {error}") from error
        return self._validate(parsed)

    def error(self, response: Response) -> tuple[str, str]:
        """Return code and message of an error response."""
        if self._json_request:
            code, message = _json_error(response)
        else:
            try:
                error = self._parse(response).get("Error") or {}
            except PARSE_ERRORS:
                error = {}
            code, message = str(error.get("Code") or response.status), str(error.get("Message") or "")
        return code[:CODE_LIMIT], message

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


_NO_OUTPUT = StructureShape("NoOutput", {"type": "structure", "members": {}})


def _is_body(shape: StructureShape | None) -> bool:
    """Return whether a REST response has all its members in the body, none in headers or in a payload of its own."""
    return shape is not None and not any(
        "payload" in part.serialization or "location" in part.serialization for part in (shape, *shape.members.values())
    )


class _Headers(dict[str, str]):
    """Headers by lower-case name, which botocore's parsers look up in any letter case."""

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
