"""Handles HTTP requests: authentication, routing, faults and counters."""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import orjson

from benchmarks.fake_aws import aws_protocols, iam, kms, organization, recorded, storage, trails
from benchmarks.fake_aws.admin_api import AdminApi, Connections
from benchmarks.fake_aws.authorization import Authorization
from benchmarks.fake_aws.aws_protocols import ApiError, api_error
from benchmarks.fake_aws.faults import Accident, FaultInjector, Faults
from benchmarks.fake_aws.identity import INVALID_TOKEN, Credential, Session, signature
from benchmarks.fake_aws.quotas import Quotas
from benchmarks.fake_aws.request_context import Call, Handler, State
from benchmarks.fake_aws.world_state import World
from demo import request_parser

GENERATED: Mapping[str, Handler] = {
    **kms.OPERATIONS,
    **organization.OPERATIONS,
    **storage.OPERATIONS,
    **iam.OPERATIONS,
    **trails.OPERATIONS,
}
"""Handlers of the generated organization by operation, with the signing name of the service."""
GLOBAL_SERVICES = frozenset({"sts", "iam", "organizations", "account"})
"""Services that do not depend on a region."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with its accident, if any, and its delay in seconds."""

    data: bytes
    accident: Accident | None = None
    delay: float = 0.0


class Service:
    """Handles requests, independently of connections."""

    def __init__(self, world: World, faults: Faults | None = None, day: int = 0) -> None:
        self.state = State(world, faults or Faults(), day)
        recorded_types = recorded.handlers()
        generates = world.parameters.resources > 0
        self.handlers = {**recorded_types, **GENERATED} if generates else {**GENERATED, **recorded_types}
        """Handlers by operation: recorded responses serve the types of which the organization generates no resource."""
        self.quotas = Quotas()
        self.operations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.accidents: Counter[str] = Counter()
        self.authorization: Authorization | None = None
        """The policies to enforce; None: every caller may call everything."""
        self._regions = frozenset({*world.parameters.regions, *world.parameters.opt_in, "us-east-1"})
        self._admin_api = AdminApi(self)
        self._injector = FaultInjector(self.state.faults)
        self._no_faults = True
        self.set_faults(self.state.faults)

    @property
    def connections(self) -> Connections:
        """The connection counters, which the server updates."""
        return self._admin_api.connections

    def set_faults(self, faults: Faults) -> None:
        """Replace the faults and restart the sequence of accidents."""
        self.state.faults = faults
        self.state.calls_by_account.clear()
        self.quotas.clear()
        self._injector = FaultInjector(faults)
        self._no_faults = faults == Faults()

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Handle a request. Header names are in lower case."""
        if target.startswith("/_fake/"):
            return Reply(self._admin_api.handle(method, target, body))
        reply = self._reply(method, target, headers, body)
        offset = self.state.faults.clock_offset
        return reply if offset is None else replace(reply, data=_dated(reply.data, time.time() + offset))

    def _reply(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        service = operation = ""
        try:
            credential = _credential(headers)
            service = credential.service
            operation, params = self._parse_request(credential.service, method, target, headers, body)
            self.operations[operation] += 1
            session = self._session(credential, headers)
            if self.state.faults.verify_signatures:
                expected = signature(credential, session.secret_key, method, target, headers, body)
                if not hmac.compare_digest(expected, credential.signature):
                    message = "The request signature we calculated does not match the signature you provided."
                    raise api_error(service, "signature", message)
            call = Call(self.state, service, operation, credential.region, session, params, time.time())
            if self._no_faults:
                return self._handle(call)
            return self._handle_with_faults(call)
        except ApiError as problem:
            self.errors[f"{operation or 'unknown'} {problem.code}"] += 1
            return Reply(aws_protocols.error(service, problem), delay=self._injector.delay())

    def _handle(self, call: Call) -> Reply:
        call.check()
        if self.authorization is not None:
            self.authorization.check(call)
        result = self.handlers[call.operation](call)
        if self.authorization is not None and not isinstance(result, bytes):
            self.authorization.remember(call, result)
        body = result if isinstance(result, bytes) else aws_protocols.encode(call.service, call.name, result)
        return Reply(aws_protocols.head(200, aws_protocols.protocol(call.service), len(body)) + body)

    def _handle_with_faults(self, call: Call) -> Reply:
        """Handle a call with the configured faults."""
        faults = self.state.faults
        session = call.session
        operation = call.operation
        accident = self._injector.accident(operation, session.account_id)
        if accident is not None:
            self.accidents[accident] += 1
        if accident == "throttle":
            raise api_error(call.service, "throttled", "Rate exceeded")
        if accident == "error":
            if self._injector.chance(0.25):
                return Reply(aws_protocols.html_503(), delay=self._injector.delay())
            raise api_error(call.service, "internal", "An internal error occurred. Try again.")
        if accident in {"reset", "hang"}:
            return Reply(b"", accident, self._injector.delay())
        if faults.quota_factor:
            bucket = (session.account_id, call.region, operation)
            if not self.quotas.take(bucket, call.now, faults.quota_factor, faults.background):
                raise api_error(call.service, "throttled", "Rate exceeded")
        if session.expires is not None:
            session.calls += 1
            if faults.expire_after_calls is not None and session.calls > faults.expire_after_calls:
                session.expires = 0.0
                raise api_error(call.service, "expired", "The security token included in the request is expired")
            role_deleted = self.state.role_is_gone(session.account_id)
            self.state.calls_by_account[session.account_id] += 1
            if role_deleted:
                raise call.denied("role")
        reply = self._handle(call)
        return Reply(reply.data, accident, self._injector.delay())

    def _session(self, credential: Credential, headers: Mapping[str, str]) -> Session:
        service, region = credential.service, credential.region
        if region not in self._regions:
            raise api_error(service, "signature", f"Credential should be scoped to a valid region, not '{region}'.")
        host = headers.get("host", "").partition(":")[0].split(".")
        if host[-2:] == ["amazonaws", "com"] and (
            host[0] != service or (host[1] not in {region, "amazonaws"} and region != "us-east-1")
        ):
            raise api_error(
                service, "signature", "Credential should be scoped to the service and region of the endpoint."
            )
        session = self.state.identities.caller(service, credential.access_key, headers.get("x-amz-security-token", ""))
        if session.expires is not None and session.expires <= time.time():
            raise api_error(service, "expired", "The security token included in the request is expired")
        if service not in GLOBAL_SERVICES and region in self.state.world.parameters.opt_in:
            account = self.state.world.account(session.account_id)
            if account is None or region not in account.opt_ins:
                raise api_error(service, "unknown token", INVALID_TOKEN)
        return session

    def _parse_request(
        self, service: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, Mapping[str, Any]]:
        """Operation and parameters of a request. Raises ApiError for an unknown operation."""
        rest = aws_protocols.protocol(service).startswith("rest-")
        if target_header := headers.get("x-amz-target"):
            prefix, _, name = target_header.rpartition(".")
            params = _json(service, body)
            model = aws_protocols.service_model(service)
            if model is None or model.metadata.get("targetPrefix") != prefix:
                message = f"Credential should be scoped to correct service, not '{service}'."
                raise api_error(service, "signature", message)
        elif rest:
            path, _, query = target.partition("?")
            name = request_parser.parse(method, path, query, headers, body).operation
            params = _json(service, body)
        else:
            params = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            name = params.get("Action", "")
        operation = f"{service}:{name}"
        if operation not in self.handlers:
            raise api_error(service, "operation", f"{operation} is not an operation of this endpoint.")
        if rest:
            params = aws_protocols.rest_params(service, name, target, headers, params)
        return operation, params


def _dated(data: bytes, now: float) -> bytes:
    """The response with a Date header."""
    first, separator, rest = data.partition(b"\r\n")
    return first + separator + f"Date: {formatdate(now, usegmt=True)}\r\n".encode() + rest


def _credential(headers: Mapping[str, str]) -> Credential:
    credential = Credential.read(headers.get("authorization", ""))
    if credential is None:
        raise ApiError("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
    return credential


def _json(service: str, body: bytes) -> Mapping[str, Any]:
    try:
        params = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("SerializationException", 400, "The body is not JSON.") from error
    if not isinstance(params, dict):
        raise api_error(service, "value", "The body is not a JSON object.")
    return params
