"""Parses AWS requests and formats AWS errors in each of the protocols of AWS services.

The names of operations come from the service models of botocore, so that a new service needs no code.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus
from xml.sax.saxutils import escape

import botocore
from botocore.loaders import Loader

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]*)/([^/]*)/aws4_request")
MODEL_FIELD = re.compile(r'"(signingName|endpointPrefix|protocol)":\s*"([^"]+)"')
MODEL_HEAD_BYTES = 2000  # the "metadata" block stands at the head of every service model and is shorter than this
RPC_PATH = re.compile(r"/service/[^/]+/operation/([^/]+)$")


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed HTTP request.

    `service` and `region` come from the credential scope (empty when the request is not signed), `operation` is the
    name of the API operation (empty when no model matches), `text` is path, query and body, raw and decoded.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    service: str
    region: str
    access_key: str
    operation: str

    @property
    def text(self) -> str:
        """The text that faults are matched against: URL and body, raw and percent-decoded."""
        sent = "\n".join((self.path, self.query, self.body.decode("utf-8", "replace")))
        return f"{sent}\n{unquote_plus(sent)}"


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """What identifies a REST operation: path, literal query, and the required parameters."""

    operation: str
    method: str
    path: re.Pattern[str]
    literal: Mapping[str, str]
    required_query: frozenset[str]
    required_headers: frozenset[str]
    rank: tuple[int, int, int, int]

    def matches(self, request: Request, query: Mapping[str, list[str]]) -> bool:
        """Whether a request, with its parsed `query`, is this operation."""
        return (
            self.method == request.method
            and self.path.fullmatch(request.path) is not None
            and all(name in query and (not value or value in query[name]) for name, value in self.literal.items())
            and self.required_query <= query.keys()
            and self.required_headers <= request.headers.keys()
        )


def parse(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Parse one request. Header names must be lower-case; `query` has no question mark."""
    match = CREDENTIAL.search(headers.get("authorization", ""))
    access_key, region, service = match.groups() if match else ("", "", "")
    request = Request(method, path, query, headers, body, service, region, access_key, operation="")
    return replace(request, operation=_operation(request))


def error(request: Request, code: str, message: str, status: int) -> Response:
    """An AWS error with this code, message and HTTP status, in the protocol of the request."""
    request_id = str(uuid.uuid4())
    headers = [("x-amzn-RequestId", request_id)]
    if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
        headers += [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]
        return Response(status, headers, _cbor_map({"__type": code, "message": message}))
    if "x-amz-target" in request.headers:
        kind = request.headers.get("content-type", "application/x-amz-json-1.1")
        return Response(status, [*headers, ("Content-Type", kind)], _json({"__type": code, "message": message}))
    code_xml, message_xml = escape(code), escape(message)
    inner = f"<Code>{code_xml}</Code><Message>{message_xml}</Message>"
    if request.service == "s3":
        body = f"<Error>{inner}<RequestId>{request_id}</RequestId></Error>"
    elif request.service == "ec2":
        body = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    elif _action(request) or request.service in {"cloudfront", "route53"}:
        kind = "Sender" if status < 500 else "Receiver"
        fault = f"<Error><Type>{kind}</Type>{inner}</Error>"
        body = f"<ErrorResponse>{fault}<RequestId>{request_id}</RequestId></ErrorResponse>"
    else:
        headers += [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
        return Response(status, headers, _json({"message": message}))
    headers += [("Content-Type", "text/xml"), ("x-amz-request-id", request_id)]
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
    return Response(status, headers, b"" if request.method == "HEAD" else document)


def empty_list(request: Request, member: str) -> Response:
    """A successful response of an RPC or query operation whose list has no items."""
    headers = [("x-amzn-RequestId", str(uuid.uuid4()))]
    if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
        headers += [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]
        return Response(200, headers, _cbor_map({member: None}))
    if "x-amz-target" in request.headers:
        return Response(200, [*headers, ("Content-Type", "application/x-amz-json-1.1")], _json({member: []}))
    name = request.operation
    body = f"<{name}Response><{name}Result><{member}/></{name}Result></{name}Response>"
    return Response(200, [*headers, ("Content-Type", "text/xml")], body.encode())


def not_implemented(request: Request) -> Response:
    """The AWS error for an operation that does not exist, as in a region that does not offer it yet."""
    if "x-amz-target" in request.headers or "smithy-protocol" in request.headers:
        return error(request, "UnknownOperationException", "The requested operation is not recognized.", 400)
    if _action(request):
        return error(request, "InvalidAction", f"Could not find operation {request.operation}.", 400)
    if request.service == "s3":
        return error(request, "NotImplemented", "The requested functionality is not implemented.", 501)
    return error(request, "UnknownOperationException", "The requested operation is not recognized.", 404)


def _operation(request: Request) -> str:
    if match := RPC_PATH.match(request.path):
        return match.group(1)
    if target := request.headers.get("x-amz-target"):
        return target.rpartition(".")[2]
    if action := _action(request):
        return action
    query = parse_qs(request.query, keep_blank_values=True)
    matching = [route for route in _routes(request.service) if route.matches(request, query)]
    return max(matching, key=lambda route: route.rank).operation if matching else ""


def _action(request: Request) -> str:
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    source = request.body.decode("utf-8", "replace") if form else request.query
    return dict(parse_qsl(source)).get("Action", "") if "Action=" in source else ""


@cache
def _rest_services() -> dict[str, list[str]]:
    """Signing name → botocore names of the REST services that sign with it (es and opensearch share one)."""
    services: dict[str, list[str]] = {}
    for model in sorted(Path(botocore.__file__).with_name("data").glob("*/*/service-2.json*")):
        with gzip.open(model) if model.suffix == ".gz" else model.open("rb") as stream:
            head = stream.read(MODEL_HEAD_BYTES).decode("utf-8", "replace").partition('"operations"')[0]
        fields = dict(MODEL_FIELD.findall(head))
        if fields.get("protocol", "").startswith("rest-"):
            services.setdefault(fields.get("signingName") or fields["endpointPrefix"], []).append(model.parts[-3])
    return services


@cache
def _routes(signing_name: str) -> tuple[Route, ...]:
    loader = Loader()
    names = dict.fromkeys(_rest_services().get(signing_name, ()))
    return tuple(route for name in names for route in _routes_of(loader.load_service_model(name, "service-2")))


def _routes_of(model: Mapping[str, Any]) -> list[Route]:
    routes = []
    for name, operation in model["operations"].items():
        uri, _, literal_query = operation["http"]["requestUri"].partition("?")
        shape = model["shapes"].get(operation.get("input", {}).get("shape"), {})
        required = [shape["members"][member] for member in shape.get("required", ())]
        query = frozenset(m["locationName"] for m in required if m.get("location") == "querystring")
        headers = frozenset(m["locationName"].lower() for m in required if m.get("location") == "header")
        literal = dict(parse_qsl(literal_query, keep_blank_values=True))
        fixed_path = len(re.sub(r"\{[^}]*\}", "", uri))
        current = 0 if operation.get("deprecated") else 1
        rank = (len(literal), len(query) + len(headers), fixed_path, current)
        routes.append(Route(name, operation["http"]["method"], _path(uri), literal, query, headers, rank))
    return routes


def _path(uri: str) -> re.Pattern[str]:
    """`/{Bucket}/{Key+}` as a pattern; a plus also matches slashes, and a trailing slash is optional."""
    parts = re.split(r"(\{[^}]*\})", uri.rstrip("/"))
    pattern = "".join(
        re.escape(part) if not part.startswith("{") else ".+" if part.endswith("+}") else "[^/]+" for part in parts
    )
    return re.compile(f"{pattern}/?")


def _json(document: Mapping[str, str | list[str]]) -> bytes:
    return json.dumps(document).encode()


def _cbor_map(document: Mapping[str, str | None]) -> bytes:
    """A CBOR map of short strings, or of empty lists for None (RFC 8949, major types 5, 3 and 4)."""
    encoded = bytes([0xA0 | len(document)])
    for text in (item for pair in document.items() for item in pair):
        if text is None:
            encoded += b"\x80"
        else:
            raw = text.encode()
            encoded += b"\x79" + struct.pack(">H", len(raw)) + raw
    return encoded
