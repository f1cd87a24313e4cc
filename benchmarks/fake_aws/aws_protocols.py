"""Encodes responses: headers, JSON, XML, and the error codes of each service."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any, Literal
from xml.sax.saxutils import escape

import orjson

WireProtocol = Literal["json", "rest-json", "query", "ec2", "s3"]
PROTOCOLS: Mapping[str, WireProtocol] = {
    "kms": "json",
    "secretsmanager": "json",
    "organizations": "json",
    "cloudtrail": "json",
    "account": "rest-json",
    "sts": "query",
    "iam": "query",
    "rds": "query",
    "elasticache": "query",
    "ec2": "ec2",
    "s3": "s3",
}
"""Protocol by signing name."""
NAMESPACES: Mapping[str, str] = {
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "rds": "http://rds.amazonaws.com/doc/2014-10-31/",
    "elasticache": "http://elasticache.amazonaws.com/doc/2015-02-02/",
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "s3": "http://s3.amazonaws.com/doc/2006-03-01/",
}
MEMBERS: Mapping[str, str] = {
    # The element name of an entry, by the element name of its list.
    "DBInstances": "DBInstance",
    "DBClusters": "DBCluster",
    "DBSnapshots": "DBSnapshot",
    "DBClusterSnapshots": "DBClusterSnapshot",
    "DBInstanceAutomatedBackups": "DBInstanceAutomatedBackup",
    "DBClusterAutomatedBackups": "DBClusterAutomatedBackup",
    "TagList": "Tag",
    "VpcSecurityGroups": "VpcSecurityGroupMembership",
    "AvailabilityZones": "AvailabilityZone",
    "ReplicationGroups": "ReplicationGroup",
    "CacheClusters": "CacheCluster",
    "Snapshots": "Snapshot",
    "NodeSnapshots": "NodeSnapshot",
    "ServerlessCacheSnapshots": "ServerlessCacheSnapshot",
    "SubnetIds": "SubnetId",
    "Buckets": "Bucket",
    "TagSet": "Tag",
    "regionInfo": "item",
}
CONTENT_TYPES: Mapping[WireProtocol, str] = {
    "json": "application/x-amz-json-1.1",
    "rest-json": "application/json",
    "query": "text/xml",
    "ec2": "text/xml;charset=UTF-8",
    "s3": "application/xml",
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
        "s3": ("SlowDown", 503),
    },
    "internal": {
        "kms": ("KMSInternalException", 500),
        "secretsmanager": ("InternalServiceError", 500),
        "organizations": ("ServiceException", 500),
        "cloudtrail": ("InternalFailure", 500),
        "rest-json": ("InternalServerException", 500),
        "query": ("InternalFailure", 500),
        "ec2": ("InternalError", 500),
        "s3": ("InternalError", 500),
    },
    "expired": {
        "json": ("ExpiredTokenException", 400),
        "rest-json": ("ExpiredTokenException", 403),
        "query": ("ExpiredToken", 403),
        "ec2": ("RequestExpired", 400),
        "s3": ("ExpiredToken", 400),
    },
    "unknown token": {
        "json": ("UnrecognizedClientException", 400),
        "rest-json": ("UnrecognizedClientException", 403),
        "query": ("InvalidClientTokenId", 403),
        "ec2": ("AuthFailure", 401),
        "s3": ("InvalidAccessKeyId", 403),
    },
    "denied": {
        "json": ("AccessDeniedException", 400),
        "rest-json": ("AccessDeniedException", 403),
        "query": ("AccessDenied", 403),
        "ec2": ("UnauthorizedOperation", 403),
        "s3": ("AccessDenied", 403),
    },
    "signature": {
        "json": ("InvalidSignatureException", 400),
        "rest-json": ("InvalidSignatureException", 403),
        "query": ("SignatureDoesNotMatch", 403),
        "ec2": ("AuthFailure", 401),
        "s3": ("SignatureDoesNotMatch", 403),
    },
    "operation": {
        "json": ("UnknownOperationException", 400),
        "rest-json": ("UnknownOperationException", 404),
        "query": ("InvalidAction", 400),
        "ec2": ("InvalidAction", 400),
        "s3": ("NotImplemented", 501),
    },
    "page": {
        "kms": ("InvalidMarkerException", 400),
        "secretsmanager": ("InvalidNextTokenException", 400),
        "organizations": ("InvalidInputException", 400),
        "rest-json": ("ValidationException", 400),
        "query": ("InvalidParameterValue", 400),
        "ec2": ("InvalidParameterValue", 400),
        "s3": ("InvalidArgument", 400),
    },
    "value": {
        "json": ("ValidationException", 400),
        "secretsmanager": ("InvalidParameterException", 400),
        "organizations": ("InvalidInputException", 400),
        "rest-json": ("ValidationException", 400),
        "query": ("InvalidParameterValue", 400),
        "sts": ("ValidationError", 400),
        "ec2": ("InvalidParameterValue", 400),
        "s3": ("InvalidArgument", 400),
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
    code, status = CODES[kind].get(service) or CODES[kind][PROTOCOLS.get(service, "json")]
    return ApiError(code, status, message)


_numbers = itertools.count(1)


def request_id() -> str:
    """A new request id in the format of AWS."""
    return f"{next(_numbers):08x}-fa4e-4000-8000-0123456789ab"


def head(status: int, kind: WireProtocol, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """The status line and headers of a response."""
    extra = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nx-amzn-RequestId: {request_id()}\r\n"
        f"Content-Type: {CONTENT_TYPES[kind]}\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def error(service: str, problem: ApiError) -> bytes:
    """A complete error response."""
    kind = PROTOCOLS.get(service, "json")
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
        if kind == "s3":
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


def query_response(service: str, operation: str, result: Mapping[str, Any]) -> bytes:
    """The body of a response of a query service."""
    return (
        f'<{operation}Response xmlns="{NAMESPACES[service]}"><{operation}Result>{xml(result)}</{operation}Result>'
        f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def xml_response(service: str, element: str, result: Mapping[str, Any]) -> bytes:
    """The body of a response of EC2 or S3."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{element} xmlns="{NAMESPACES[service]}">{xml(result)}</{element}>'
    ).encode()


def xml(value: Any, name: str = "") -> str:
    """Encode a value: members as elements, lists according to `MEMBERS`, times in ISO 8601 with milliseconds."""
    if isinstance(value, Mapping):
        return "".join([f"<{key}>{xml(each, key)}</{key}>" for key, each in value.items()])
    if isinstance(value, list):
        member = MEMBERS.get(name, "member")
        return "".join([f"<{member}>{xml(each)}</{member}>" for each in value])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return escape(str(value))
