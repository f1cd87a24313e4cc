"""A transport that uses boto3 clients: one per service and region, shared by all accounts.

The credentials of a client are resolved per call, so that connections belong to the endpoint and credentials to the call.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.handlers
import botocore.parsers
import botocore.session

from crawler.aws.errors import CODE_LIMIT, AwsError, classify
from crawler.aws.response_validation import PARSE_ERRORS, response_validator, tolerant_parser, without_long_texts
from crawler.spec import Operation
from models.settings import AwsSettings
from models.tables.runs import Cause

THREADS = 32
"""More threads do not send more calls per second: they wait for the interpreter lock."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials that sign a call; never printed."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class Transport(Protocol):
    """Sends one call and returns its parsed response, or raises :class:`AwsError`."""

    max_seconds: float
    """Maximum duration of :meth:`send`."""

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call ``operation`` in ``region``."""

    def close(self) -> None:
        """Close connections and threads."""


class _CallCredentials(botocore.credentials.Credentials):
    """Provides the credentials of the current thread's call."""

    def __init__(self) -> None:
        super().__init__("per-call", "per-call")
        self.current = threading.local()

    def get_frozen_credentials(self) -> Any:
        """Return the credentials; called by botocore's signer for each request."""
        current: Credentials = self.current.value
        return botocore.credentials.ReadOnlyCredentials(current.access_key, current.secret_key, current.token)


class _TolerantParsers(botocore.parsers.ResponseParserFactory):
    """Creates the parsers of all clients."""

    def create_parser(self, protocol_name: str) -> Any:
        """Return a parser that leaves invalid values to the validator."""
        return tolerant_parser(protocol_name)()


class Boto3Transport:
    """Sends calls through boto3."""

    max_seconds = math.inf
    """The read timeout does not limit a response that arrives byte by byte."""

    def __init__(self, settings: AwsSettings, concurrency: int) -> None:
        threads = min(concurrency, THREADS)
        self._settings = settings
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aws")
        self._credentials = _CallCredentials()
        core = botocore.session.get_session()
        core._credentials = self._credentials  # type: ignore[attr-defined]  # noqa: SLF001 - botocore has no public API to set the credentials of a session
        core.register_component("response_parser_factory", _TolerantParsers())
        self._session = boto3.Session(botocore_session=core, region_name=settings.region)
        self._clients: dict[tuple[str, str], Any] = {}
        self._validators: dict[Operation, Callable[[Any], dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self.clock_offset: float | None = None
        """Seconds by which the server clock is ahead of the local clock, by the date of the first successful response."""
        self._config = botocore.config.Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_pool_connections=threads,
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=False,
            tcp_keepalive=True,
            use_fips_endpoint=settings.use_fips,
            use_dualstack_endpoint=settings.use_dualstack,
            user_agent_extra="kmsledger",
            s3={"addressing_style": "path"} if settings.endpoint_url or "s3" in settings.endpoints else None,
        )

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make the call in a thread, without botocore's retries: the client retries."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._send, credentials, operation, region, params)

    def close(self) -> None:
        """Shut down without waiting for the calls in flight."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._credentials.current.value = credentials
        try:
            client = self._client(operation.service, region)
            response: dict[str, Any] = client._make_api_call(operation.name, dict(params))  # noqa: SLF001 - the method behind every client method
        except botocore.exceptions.ClientError as error:
            raise _convert_error(error) from error
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
            raise AwsError(Cause.UNREACHABLE, type(error).__name__, str(error)) from error
        except (botocore.exceptions.ResponseStreamingError, botocore.parsers.ResponseParserError) as error:
            raise AwsError(Cause.SERVICE_ERROR, type(error).__name__, str(error)) from error
        except botocore.exceptions.BotoCoreError as error:
            raise AwsError(Cause.REJECTED, type(error).__name__, str(error)) from error
        except PARSE_ERRORS as error:
            message = f"the response does not come from AWS: {type(error).__name__}: {error}"
            raise AwsError(Cause.SERVICE_ERROR, "ResponseNotUnderstood", message) from error
        metadata = response.pop("ResponseMetadata", {})
        if self.clock_offset is None:
            self.clock_offset = server_clock_offset(metadata.get("HTTPHeaders", {}).get("date"))
        return self._validator(client, operation)(without_long_texts(response))

    def _validator(self, client: Any, operation: Operation) -> Callable[[Any], dict[str, Any]]:
        validator = self._validators.get(operation)
        if validator is None:
            shape = client.meta.service_model.operation_model(operation.name).output_shape
            validator = self._validators[operation] = response_validator(str(operation), shape, wire_names=False)
        return validator

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            client = self._clients.get((service, region))
            if client is None:
                settings = self._settings
                client = self._session.client(  # type: ignore[call-overload]  # the service name is not a literal
                    service,
                    region_name=region,
                    endpoint_url=settings.endpoints.get(service) or settings.endpoint_url,
                    config=self._config,
                    verify=str(settings.ca_bundle) if settings.ca_bundle else None,
                )
                if service == "iam":
                    # Keep policies as sent, like the curl transport does: decoding and encoding them would change the text.
                    client.meta.events.unregister("after-call.iam", botocore.handlers.json_decode_policies)
                self._clients[service, region] = client
            return client


def server_clock_offset(date: str | None) -> float | None:
    """Return the seconds by which the date of a response is ahead of the local clock; None if it is no date."""
    if date is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (OverflowError, ValueError):
        return None


def _convert_error(error: botocore.exceptions.ClientError) -> AwsError:
    details = error.response.get("Error", {})
    code = str(details.get("Code") or "Unknown")[:CODE_LIMIT]
    message = str(details.get("Message") or "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return AwsError(classify(code, message, status), code, message)
