"""Parses REST requests and encodes responses as defined by botocore's service models; the error codes of each service."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import orjson
from botocore.exceptions import UnknownServiceError, ValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape

from crawler.iam_policies import operations

CONTENT_TYPES: Mapping[str, str] = {
    # By protocol of botocore's models.
    "json": "application/x-amz-json-1.1",
    "rest-json": "application/json",
    "query": "text/xml",
    "ec2": "text/xml;charset=UTF-8",
    "rest-xml": "application/xml",
}
REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
REASONS |= {404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented"}
REASONS |= {503: "Service Unavailable"}

ErrorKind = Literal[
    "throttled", "internal", "expired", "unknown token", "denied", "signature", "operation", "page", "value"
]
CODES: Mapping[ErrorKind, Mapping[str, tuple[str, int]]] = {
    # Code and status by service or protocol; the service takes precedence.
    "throttled": {
        "json": ("ThrottlingException", 400),
        "organizations": ("TooManyRequestsException", 400),
        "rest-json": ("TooManyRequestsException", 429),
        "query": ("Throttling", 400),
        "ec2": ("RequestLimitExceeded", 503),
        "rest-xml": ("SlowDown", 503),
    },
    "internal": {
        "kms": ("KMSInternalException", 500),
        "secretsmanager": ("InternalServiceError", 500),
        "organizations": ("ServiceException", 500),
        "cloudtrail": ("InternalFailure", 500),
        "rest-json": ("InternalServerException", 500),
        "query": ("InternalFailure", 500),
        "ec2": ("InternalError", 500),
        "rest-xml": ("InternalError", 500),
    },
    "expired": {
        "json": ("ExpiredTokenException", 400),
        "rest-json": ("ExpiredTokenException", 403),
        "query": ("ExpiredToken", 403),
        "ec2": ("RequestExpired", 400),
        "rest-xml": ("ExpiredToken", 400),
    },
    "unknown token": {
        "json": ("UnrecognizedClientException", 400),
        "rest-json": ("UnrecognizedClientException", 403),
        "query": ("InvalidClientTokenId", 403),
        "ec2": ("AuthFailure", 401),
        "rest-xml": ("InvalidAccessKeyId", 403),
    },
    "denied": {
        "json": ("AccessDeniedException", 400),
        "rest-json": ("AccessDeniedException", 403),
        "query": ("AccessDenied", 403),
        "ec2": ("UnauthorizedOperation", 403),
        "rest-xml": ("AccessDenied", 403),
    },
    "signature": {
        "json": ("InvalidSignatureException", 400),
        "rest-json": ("InvalidSignatureException", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "ec2": ("AuthFailure", 401),
        "rest-xml": ("SignatureDoesNotMatch", 403),
    },
    "operation": {
        "json": ("UnknownOperationException", 400),
        "rest-json": ("UnknownOperationException", 404),
        "query": ("InvalidAction", 400),
        "ec2": ("InvalidAction", 400),
        "rest-xml": ("NotImplemented", 501),
    },
    "page": {
        "kms": ("InvalidMarkerException", 400),
        "secretsmanager": ("InvalidNextTokenException", 400),
        "organizations": ("InvalidInputException", 400),
        "rest-json": ("ValidationException", 400),
        "query": ("InvalidParameterValue", 400),
        "ec2": ("InvalidParameterValue", 400),
        "rest-xml": ("InvalidArgument", 400),
    },
    "value": {
        "json": ("ValidationException", 400),
        "secretsmanager": ("InvalidParameterException", 400),
        "organizations": ("InvalidInputException", 400),
        "rest-json": ("ValidationException", 400),
        "query": ("InvalidParameterValue", 400),
        "sts": ("ValidationError", 400),
        "ec2": ("InvalidParameterValue", 400),
        "rest-xml": ("InvalidArgument", 400),
    },
}


class ApiError(Exception):
    """A call that fails with an AWS error. `headers` are added to the response."""

    def __init__(self, code: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.headers = headers or {}


def api_error(service: str, kind: ErrorKind, message: str) -> ApiError:
    """The error of this kind in the codes of a service."""
    code, status = CODES[kind].get(service) or CODES[kind][protocol(service)]
    return ApiError(code, status, message)


@cache
def service_model(signing_name: str) -> ServiceModel | None:
    """The model of a service; None for a service that is neither known to botocore nor declared by the crawler."""
    loader = Loader()
    declared = (operation.service for operation in operations())
    for name in (signing_name, *dict.fromkeys(declared)):
        try:
            model = ServiceModel(loader.load_service_model(name, "service-2"), name)
        except (UnknownServiceError, ValidationError):
            continue
        if signing_name in {name, model.signing_name}:
            return model
    return None


@cache
def protocol(service: str) -> str:
    """The protocol of a service by its signing name; JSON for unknown services."""
    model = service_model(service)
    return model.resolved_protocol if model else "json"


def rest_params(
    service: str, name: str, target: str, headers: Mapping[str, str], body: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The parameters of a REST request by member name: from path, query, headers and body."""
    model = service_model(service)
    shape = model.operation_model(name).input_shape if model else None
    if model is None or not isinstance(shape, StructureShape):
        return body
    path, _, query = target.partition("?")
    uri = model.operation_model(name).http["requestUri"].partition("?")[0].rstrip("/")
    labels = re.findall(r"{([^}+]*)", uri)
    pattern = re.sub(r"\\{[^}]*\\}", "(.+)", re.escape(uri)) + "/?"
    segments = re.fullmatch(pattern, path)
    sources: dict[str, Mapping[str, Any]] = {
        "uri": dict(zip(labels, map(unquote, segments.groups() if segments else ()), strict=False)),
        "querystring": dict(parse_qsl(query, keep_blank_values=True)),
        "header": headers,
    }
    params = dict(body)
    for title, member in shape.members.items():
        wire_name = member.serialization.get("name", title)
        source = sources.get(member.serialization.get("location", ""), {})
        if (value := source.get(wire_name, source.get(wire_name.lower()))) is not None:
            params[title] = value
    return params


_numbers = itertools.count(1)


def request_id() -> str:
    """A new request id in the format of AWS."""
    return f"{next(_numbers):08x}-fa4e-4000-8000-0123456789ab"


def head(status: int, kind: str, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """The status line and headers of a response."""
    extra = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nx-amzn-RequestId: {request_id()}\r\n"
        f"Content-Type: {CONTENT_TYPES[kind]}\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def error(service: str, problem: ApiError) -> bytes:
    """A complete error response."""
    kind = protocol(service)
    headers = dict(problem.headers)
    if kind in {"json", "rest-json"}:
        members = {"__type": problem.code, "message": problem.message}
        if kind == "rest-json":
            headers["x-amzn-ErrorType"] = problem.code
            members.pop("__type")
        body = orjson.dumps(members)
    else:
        inner = f"<Code>{escape(problem.code)}</Code><Message>{escape(problem.message)}</Message>"
        number = request_id()
        if kind == "rest-xml":
            region = headers.get("x-amz-bucket-region")
            region_element = f"<Region>{region}</Region>" if region else ""
            text = f"<Error>{inner}{region_element}<RequestId>{number}</RequestId></Error>"
        elif kind == "ec2":
            text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{number}</RequestID></Response>"
        else:
            fault = "Sender" if problem.status < 500 else "Receiver"
            text = f"<ErrorResponse><Error><Type>{fault}</Type>{inner}</Error><RequestId>{number}</RequestId></ErrorResponse>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return head(problem.status, kind, len(body), headers) + body


def html_503() -> bytes:
    """A 503 of a proxy, in HTML instead of the protocol of the service."""
    body = b"<html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>"
    start = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    return start.encode() + body


def encode(service: str, name: str, result: Mapping[str, Any]) -> bytes:
    """The body of a response, from the members that boto3 returns."""
    model = service_model(service)
    kind = protocol(service)
    if model is None or kind == "json":
        return orjson.dumps(result, _seconds, orjson.OPT_PASSTHROUGH_DATETIME)
    output = model.operation_model(name).output_shape
    shape: Any = output
    if payload := shape.serialization.get("payload"):
        shape, result = shape.members[payload], result[payload]
    if kind == "rest-json":
        return orjson.dumps(_json(shape, result), _seconds, orjson.OPT_PASSTHROUGH_DATETIME)
    namespace = model.metadata.get("xmlNamespace", "")
    content = _xml(shape, result)
    if kind == "query":
        metadata = f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata>"
        content = f"<{name}Result>{content}</{name}Result>{metadata}"
    root = f"{name}Response" if kind in {"query", "ec2"} else shape.serialization.get("name", shape.name)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{namespace}">{content}</{root}>'.encode()


def _seconds(value: Any) -> float:
    """A timestamp in JSON."""
    if isinstance(value, dt.datetime):
        return value.timestamp()
    raise TypeError


def _json(shape: Any, value: Any) -> Any:
    """A value with the names of the protocol; null members are left out, as in AWS."""
    if shape.type_name == "structure":
        members = ((shape.members[name], name, each) for name, each in value.items())
        return {member.serialization.get("name", name): _json(member, each) for member, name, each in members}
    if shape.type_name == "list":
        return [_json(shape.member, each) for each in value]
    if shape.type_name == "map":
        return {name: _json(shape.value, each) for name, each in value.items()}
    return value


def _xml(shape: Any, value: Any) -> str:
    """The content of an element; timestamps are in ISO 8601 with milliseconds."""
    kind = shape.type_name
    if kind == "structure":
        return "".join([_member(name, shape.members[name], each) for name, each in value.items()])
    if kind == "list":
        name = shape.member.serialization.get("name", "member")
        return "".join([f"<{name}>{_xml(shape.member, each)}</{name}>" for each in value])
    if kind == "map":
        key, content = shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")
        pairs = [
            f"<{key}>{escape(name)}</{key}><{content}>{_xml(shape.value, each)}</{content}>"
            for name, each in value.items()
        ]
        return "".join([f"<entry>{pair}</entry>" for pair in pairs])
    if kind == "boolean":
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return escape(str(value))


def _member(name: str, shape: Any, value: Any) -> str:
    element = shape.serialization.get("name", name)
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        element = shape.member.serialization.get("name", element)
        return "".join([f"<{element}>{_xml(shape.member, each)}</{element}>" for each in value])
    return f"<{element}>{_xml(shape, value)}</{element}>"
