"""A scripted AWS: a transport with responses by operation, and credentials for it. Everything above it is real."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session

from crawler.aws.client import AwsClient
from crawler.aws.errors import AwsError, classify
from crawler.aws.response_validation import response_validator
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause

ACCOUNT = "111122223333"
REGION = "eu-west-1"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as received by AWS."""

    name: str
    """``service:Operation``."""
    region: str
    params: Mapping[str, Any]
    credentials: Credentials

    def __getitem__(self, parameter: str) -> Any:
        return self.params[parameter]


Result = Mapping[str, Any] | BaseException
Answer = Result | Callable[[RecordedCall], Result]


def validated(operation: Operation, response: dict[str, Any]) -> dict[str, Any]:
    """Return a response as validated by each transport."""
    return _validator(operation.service, operation.name)(response)


@cache
def _validator(service: str, name: str) -> Callable[[Any], dict[str, Any]]:
    shape = _SESSION.get_service_model(service).operation_model(name).output_shape
    return response_validator(f"{service}:{name}", shape, wire_names=False)


_SESSION = botocore.session.Session()


@dataclass(slots=True)
class ScriptedAws:
    """Implements :class:`crawler.aws.transport_boto3.Transport`: returns responses by ``service:Operation`` and records calls."""

    answers: dict[str, Answer]
    calls: list[RecordedCall] = field(default_factory=list)
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the scripted response; an operation without one is unknown."""
        call = RecordedCall(str(operation), region, dict(params), credentials)
        self.calls.append(call)
        await asyncio.sleep(0)
        answer = self.answers.get(call.name, aws_error("UnknownOperationException", "no such operation"))
        result = answer(call) if callable(answer) else answer
        if isinstance(result, AwsError):
            raise AwsError(result.cause, result.code, result.message)
        if isinstance(result, BaseException):
            raise result
        return validated(operation, dict(result))

    def close(self) -> None:
        """Do nothing."""

    def of(self, name: str) -> list[RecordedCall]:
        """Return the calls of one operation."""
        return [call for call in self.calls if call.name == name]


@dataclass(slots=True)
class Caller:
    """Implements :class:`crawler.aws.client.CredentialProvider` with credentials numbered by renewal."""

    account_id: str = ACCOUNT
    renewals: int = 0

    async def credentials(self) -> Credentials:
        """Return the current credentials."""
        return Credentials(f"AKIA{self.renewals}", "secret", None)

    async def renew(self, expired: Credentials) -> Credentials:
        """Return new credentials."""
        del expired
        self.renewals += 1
        return await self.credentials()


def client_for(aws: ScriptedAws, *, attempts: int = 1, concurrency: int = 64) -> AwsClient:
    """Return a client of the scripted AWS, by default without retries. Requires a running event loop."""
    return AwsClient(
        AwsSettings(), CrawlSettings(max_attempts=attempts, concurrency=concurrency, quota_share_percent=100), aws
    )


def aws_error(code: str, message: str = "", status: int | None = 400) -> AwsError:
    """Return an error response, classified like in a transport."""
    return AwsError(classify(code, message, status), code, message)


def denied(action: str = "kms:DescribeKey") -> AwsError:
    """Return a denial by a key policy, with AWS's message."""
    message = (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/KmsInventoryReadOnly/kmsledger is not authorized to perform: {action} "
        f"on resource: arn:aws:kms:{REGION}:{ACCOUNT}:key/x because no resource-based policy allows the {action} action"
    )
    return aws_error("AccessDeniedException", message)


def unreachable() -> AwsError:
    """Return a connection error."""
    return AwsError(Cause.UNREACHABLE, "EndpointConnectionError", "Could not connect to the endpoint URL")


def in_turn(*answers: Result) -> Callable[[RecordedCall], Result]:
    """Return one response after the other, then the last repeatedly."""
    remaining: list[Result] = list(answers)
    return lambda _call: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def paged(
    items: str, pages: Sequence[Sequence[Any] | AwsError], *, send: str, receive: str, more: str = ""
) -> Callable[[RecordedCall], Result]:
    """Return a paged listing; a page may be empty or an error. Tokens are ``page-1``, ``page-2`` ..."""

    def answer(call: RecordedCall) -> Result:
        number = int(str(call.params.get(send, "page-0")).removeprefix("page-"))
        page = pages[number]
        if isinstance(page, AwsError):
            return page
        last = number == len(pages) - 1
        response: dict[str, Any] = {items: list(page)}
        if not last:
            response[receive] = f"page-{number + 1}"
        if more:
            response[more] = not last
        return response

    return answer
