"""An AWS of a few lines: a transport that answers by operation, and the right to call it. Everything above it is real."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawler.aws.client import AwsClient
from crawler.aws.errors import AwsError, classify
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.tables.runs import Cause

ACCOUNT = "111122223333"
REGION = "eu-west-1"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as it reached AWS."""

    name: str
    """``service:Operation``."""
    region: str
    params: Mapping[str, Any]
    credentials: Credentials

    def __getitem__(self, parameter: str) -> Any:
        return self.params[parameter]


Result = Mapping[str, Any] | BaseException
Answer = Result | Callable[[RecordedCall], Result]


@dataclass(slots=True)
class ScriptedAws:
    """Implements :class:`crawler.aws.transport_boto3.Transport`: answers by ``service:Operation``, remembers what was asked."""

    answers: dict[str, Answer]
    calls: list[RecordedCall] = field(default_factory=list)
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Answer as the script says; what it does not name is an unknown operation."""
        call = RecordedCall(str(operation), region, dict(params), credentials)
        self.calls.append(call)
        await asyncio.sleep(0)
        answer = self.answers.get(call.name, aws_error("UnknownOperationException", "no such operation"))
        given = answer(call) if callable(answer) else answer
        if isinstance(given, AwsError):
            raise AwsError(given.cause, given.code, given.message)
        if isinstance(given, BaseException):
            raise given
        return dict(given)

    def close(self) -> None:
        """Nothing is held."""

    def of(self, name: str) -> list[RecordedCall]:
        """The calls of one operation."""
        return [call for call in self.calls if call.name == name]


@dataclass(slots=True)
class Caller:
    """Implements :class:`crawler.aws.client.CredentialProvider` with credentials that are numbered as they are renewed."""

    account_id: str = ACCOUNT
    renewals: int = 0

    async def credentials(self) -> Credentials:
        """The present ones."""
        return Credentials(f"AKIA{self.renewals}", "secret", None)

    async def renew(self, expired: Credentials) -> Credentials:
        """The next ones."""
        del expired
        self.renewals += 1
        return await self.credentials()


def client_for(aws: ScriptedAws, *, attempts: int = 1, concurrency: int = 64) -> AwsClient:
    """A client with the scripted AWS behind it; by default nothing is tried twice. Make it where an event loop runs."""
    return AwsClient(
        AwsSettings(), CrawlSettings(max_attempts=attempts, concurrency=concurrency, quota_share_percent=100), aws
    )


def aws_error(code: str, message: str = "", status: int | None = 400) -> AwsError:
    """An error answer, classified as the client classifies it."""
    return AwsError(classify(code, message, status), code, message)


def denied(action: str = "kms:DescribeKey") -> AwsError:
    """A denial by the key policy, in AWS's words."""
    message = (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/KmsInventoryReadOnly/kmsledger is not authorized to perform: {action} "
        f"on resource: arn:aws:kms:{REGION}:{ACCOUNT}:key/x because no resource-based policy allows the {action} action"
    )
    return aws_error("AccessDeniedException", message)


def unreachable() -> AwsError:
    """No connection."""
    return AwsError(Cause.UNREACHABLE, "EndpointConnectionError", "Could not connect to the endpoint URL")


def in_turn(*answers: Result) -> Callable[[RecordedCall], Result]:
    """One answer after the other; the last for ever."""
    left: list[Result] = list(answers)
    return lambda _call: left.pop(0) if len(left) > 1 else left[0]


def paged(
    items: str, pages: Sequence[Sequence[Any] | AwsError], *, send: str, receive: str, more: str = ""
) -> Callable[[RecordedCall], Result]:
    """A listing in pages; a page may be empty or fail. Tokens are ``page-1``, ``page-2`` ..."""

    def answer(call: RecordedCall) -> Result:
        number = int(str(call.params.get(send, "page-0")).removeprefix("page-"))
        page = pages[number]
        if isinstance(page, AwsError):
            return page
        last = number == len(pages) - 1
        found: dict[str, Any] = {items: list(page)}
        if not last:
            found[receive] = f"page-{number + 1}"
        if more:
            found[more] = not last
        return found

    return answer
