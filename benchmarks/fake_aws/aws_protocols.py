"""Answers as bytes: heads, JSON, XML, and every service's own words for what went wrong."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any, Literal
from xml.sax.saxutils import escape

import orjson

Wording = Literal["json", "rest-json", "query", "ec2", "s3"]
PROTOCOLS: Mapping[str, Wording] = {
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
"""By the name that requests are signed with."""
NAMESPACES: Mapping[str, str] = {
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "rds": "http://rds.amazonaws.com/doc/2014-10-31/",
    "elasticache": "http://elasticache.amazonaws.com/doc/2015-02-02/",
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "s3": "http://s3.amazonaws.com/doc/2006-03-01/",
}
MEMBERS: Mapping[str, str] = {
    # The element of one entry, by the element of its list.
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
CONTENT_TYPES: Mapping[Wording, str] = {
    "json": "application/x-amz-json-1.1",
    "rest-json": "application/json",
    "query": "text/xml",
    "ec2": "text/xml;charset=UTF-8",
    "s3": "application/xml",
}
REASONS = {200: "OK", 301: "Moved Permanently", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
REASONS |= {404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented"}
REASONS |= {503: "Service Unavailable"}

Trouble = Literal[
    "throttled", "internal", "expired", "unknown token", "denied", "signature", "operation", "page", "value"
]
CODES: Mapping[Trouble, Mapping[str, tuple[str, int]]] = {
    # By service or protocol; the service comes first.
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


class RefusedError(Exception):
    """A call that is answered with an error. `headers` are added to the answer's."""

    def __init__(self, code: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.headers = headers or {}


def refused(service: str, trouble: Trouble, message: str) -> RefusedError:
    """The error by which a service says this."""
    code, status = CODES[trouble].get(service) or CODES[trouble][PROTOCOLS.get(service, "json")]
    return RefusedError(code, status, message)


_numbers = itertools.count(1)


def request_id() -> str:
    """Looks like those of AWS, counts up."""
    return f"{next(_numbers):08x}-fa4e-4000-8000-0123456789ab"


def head(status: int, kind: Wording, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """Everything before the body."""
    extra = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nx-amzn-RequestId: {request_id()}\r\n"
        f"Content-Type: {CONTENT_TYPES[kind]}\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def error(service: str, problem: RefusedError) -> bytes:
    """A complete answer."""
    kind = PROTOCOLS.get(service, "json")
    headers = dict(problem.headers)
    if kind in {"json", "rest-json"}:
        told = {"__type": problem.code, "message": problem.message}
        if kind == "rest-json":
            headers["x-amzn-ErrorType"] = problem.code
            told.pop("__type")
        body = orjson.dumps(told)
    else:
        inner = f"<Code>{escape(problem.code)}</Code><Message>{escape(problem.message)}</Message>"
        number = request_id()
        if kind == "s3":
            region = headers.get("x-amz-bucket-region")
            told_region = f"<Region>{region}</Region>" if region else ""
            text = f"<Error>{inner}{told_region}<RequestId>{number}</RequestId></Error>"
        elif kind == "ec2":
            text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{number}</RequestID></Response>"
        else:
            fault = "Sender" if problem.status < 500 else "Receiver"
            text = f"<ErrorResponse><Error><Type>{fault}</Type>{inner}</Error><RequestId>{number}</RequestId></ErrorResponse>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return head(problem.status, kind, len(body), headers) + body


def html_503() -> bytes:
    """What a proxy in between says, in nobody's protocol."""
    body = b"<html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>"
    start = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    return start.encode() + body


def query_answer(service: str, operation: str, result: Mapping[str, Any]) -> bytes:
    """The body of a query service's answer."""
    return (
        f'<{operation}Response xmlns="{NAMESPACES[service]}"><{operation}Result>{xml(result)}</{operation}Result>'
        f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def root_answer(service: str, element: str, result: Mapping[str, Any]) -> bytes:
    """The body of an EC2 or S3 answer."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{element} xmlns="{NAMESPACES[service]}">{xml(result)}</{element}>'
    ).encode()


def xml(value: Any, name: str = "") -> str:
    """Members as elements, lists by `MEMBERS`, times in ISO 8601 with milliseconds."""
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
