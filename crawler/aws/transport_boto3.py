"""Sending through stock boto3 clients: one client per service and region, shared by all accounts.

A client's credentials are looked up anew for each call, so connections belong to the endpoint and credentials to the call.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.handlers
import botocore.session

from crawler.aws.errors import AwsError, classify
from crawler.spec import Operation
from models.settings import AwsSettings
from models.tables.runs import Cause

THREADS = 32
"""More threads in one process send no more calls a second: they wait for the interpreter's lock."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a call. Never printed."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class Transport(Protocol):
    """Sends one call and gives its parsed answer, or raises :class:`AwsError`."""

    patience: float
    """Seconds after which :meth:`send` gives up by itself."""

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask ``operation`` of ``region``."""

    def close(self) -> None:
        """Let go of connections and threads."""


class _CallCredentials(botocore.credentials.Credentials):
    """The credentials of the call that the current thread is making."""

    def __init__(self) -> None:
        super().__init__("per-call", "per-call")
        self.current = threading.local()

    def get_frozen_credentials(self) -> Any:
        """Called by botocore's signer for each request."""
        held: Credentials = self.current.value
        return botocore.credentials.ReadOnlyCredentials(held.access_key, held.secret_key, held.token)


class Boto3Transport:
    """The stock way."""

    patience = math.inf
    """An answer that arrives a byte at a time never ends."""

    def __init__(self, settings: AwsSettings, concurrency: int) -> None:
        threads = min(concurrency, THREADS)
        self._settings = settings
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aws")
        self._credentials = _CallCredentials()
        core = botocore.session.get_session()
        core._credentials = self._credentials  # type: ignore[attr-defined]  # noqa: SLF001 - botocore has no public way to hand a session its credentials
        self._session = boto3.Session(botocore_session=core, region_name=settings.region)
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
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
        """Ask in a thread; botocore's own retries are off, the door makes them."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._send, credentials, operation, region, params)

    def close(self) -> None:
        """Wait for nothing: calls in flight end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._credentials.current.value = credentials
        try:
            client = self._client(operation.service, region)
            answer: dict[str, Any] = client._make_api_call(operation.name, dict(params))  # noqa: SLF001 - what every client method calls, by the operation's own name
        except botocore.exceptions.ClientError as error:
            raise _from_answer(error) from error
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
            raise AwsError(Cause.UNREACHABLE, type(error).__name__, str(error)) from error
        except (botocore.exceptions.ResponseStreamingError, botocore.parsers.ResponseParserError) as error:
            raise AwsError(Cause.SERVICE_ERROR, type(error).__name__, str(error)) from error
        except botocore.exceptions.BotoCoreError as error:
            raise AwsError(Cause.REJECTED, type(error).__name__, str(error)) from error
        except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            # How botocore's parsers fail on what AWS never sent: a proxy's well-formed page, a time beyond all calendars.
            said = f"the answer is not one of AWS: {type(error).__name__}: {error}"
            raise AwsError(Cause.SERVICE_ERROR, "ResponseNotUnderstood", said) from error
        answer.pop("ResponseMetadata", None)
        return answer

    def _client(self, service: str, region: str) -> Any:
        key = (service, region)
        found = self._clients.get(key)
        if found is not None:
            return found
        with self._lock:
            found = self._clients.get(key)
            if found is None:
                settings = self._settings
                found = self._session.client(  # type: ignore[call-overload]  # the service's name is data here
                    service,
                    region_name=region,
                    endpoint_url=settings.endpoints.get(service) or settings.endpoint_url,
                    config=self._config,
                    verify=str(settings.ca_bundle) if settings.ca_bundle else None,
                )
                if service == "iam":
                    # Policies as they were sent, as the wire gives them: read and written again they would be other texts.
                    found.meta.events.unregister("after-call.iam", botocore.handlers.json_decode_policies)
                self._clients[key] = found
        return found


def _from_answer(error: botocore.exceptions.ClientError) -> AwsError:
    described = error.response.get("Error", {})
    code = str(described.get("Code") or "Unknown")
    message = str(described.get("Message") or "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return AwsError(classify(code, message, status), code, message)
