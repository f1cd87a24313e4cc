"""From an HTTP request to its answer: who asks for what, what goes wrong, and what is counted."""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from benchmarks.fake_aws import aws_protocols, iam, kms, organization, storage, trails
from benchmarks.fake_aws.admin_api import Connections, Control
from benchmarks.fake_aws.aws_protocols import PROTOCOLS, RefusedError, refused
from benchmarks.fake_aws.faults import Accident, Dice, Faults
from benchmarks.fake_aws.identity import INVALID, Credential, Session, signature
from benchmarks.fake_aws.quotas import Quotas
from benchmarks.fake_aws.request_context import Call, Handler, State
from benchmarks.fake_aws.world_state import World

HANDLERS: Mapping[str, Handler] = {
    **kms.OPERATIONS,
    **organization.OPERATIONS,
    **storage.OPERATIONS,
    **iam.OPERATIONS,
    **trails.OPERATIONS,
}
"""Every operation that is answered, with the signing name of its service."""
TARGETS: Mapping[str, str] = {
    "TrentService": "kms",
    "secretsmanager": "secretsmanager",
    "AWSOrganizationsV20161128": "organizations",
    "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101": "cloudtrail",
}
"""Services by what stands before the operation in X-Amz-Target."""
PATHS: Mapping[str, str] = {"/listRegions": "account:ListRegions"}
BUCKET_QUESTIONS: Mapping[str, str] = {"encryption": "s3:GetBucketEncryption", "tagging": "s3:GetBucketTagging"}
SCOPE_OF_ROLES = frozenset({"sts", "iam", "organizations", "account"})
"""Services that have no account-region of their own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, what happens instead of it or to it, and how long it takes (seconds)."""

    data: bytes
    accident: Accident | None = None
    delay: float = 0.0


class Service:
    """Answers requests. It knows nothing of connections."""

    def __init__(self, world: World, faults: Faults | None = None, night: int = 0) -> None:
        self.state = State(world, faults or Faults(), night)
        self.quotas = Quotas()
        self.operations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.accidents: Counter[str] = Counter()
        self._regions = frozenset({*world.parameters.regions, *world.parameters.opt_in, "us-east-1"})
        self._control = Control(self)
        self._dice = Dice(self.state.faults)
        self._plain = True
        self.set_faults(self.state.faults)

    @property
    def connections(self) -> Connections:
        """What is known of connections; counted by the server."""
        return self._control.connections

    def set_faults(self, faults: Faults) -> None:
        """Change what goes wrong from now on; the sequence of accidents starts anew."""
        self.state.faults = faults
        self.state.calls_by_account.clear()
        self.quotas.clear()
        self._dice = Dice(faults)
        self._plain = faults == Faults()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Header names are in lower case."""
        if target.startswith("/_fake/"):
            return Reply(self._control.answer(method, target, body))
        service = operation = ""
        try:
            credential = _credential(headers)
            service = credential.service
            operation, asked = self._asked(credential.service, method, target, headers, body)
            self.operations[operation] += 1
            session = self._session(credential, headers)
            if self.state.faults.verify_signatures:
                wanted = signature(credential, session.secret_key, method, target, headers, body)
                if not hmac.compare_digest(wanted, credential.signature):
                    message = "The request signature we calculated does not match the signature you provided."
                    raise refused(service, "signature", message)
            call = Call(self.state, service, operation, credential.region, session, asked, time.time())
            if self._plain:
                return self._answered(call)
            return self._troubled(call)
        except RefusedError as problem:
            self.errors[f"{operation or 'unknown'} {problem.code}"] += 1
            return Reply(aws_protocols.error(service, problem), delay=self._dice.delay())

    def _answered(self, call: Call) -> Reply:
        call.check()
        body = HANDLERS[call.operation](call)
        return Reply(aws_protocols.head(200, PROTOCOLS[call.service], len(body)) + body)

    def _troubled(self, call: Call) -> Reply:
        """Answer with whatever the faults make of it."""
        faults = self.state.faults
        session = call.session
        operation = call.operation
        accident = self._dice.accident(operation, session.account_id)
        if accident is not None:
            self.accidents[accident] += 1
        if accident == "throttle":
            raise refused(call.service, "throttled", "Rate exceeded")
        if accident == "error":
            if self._dice.coin(0.25):
                return Reply(aws_protocols.html_503(), delay=self._dice.delay())
            raise refused(call.service, "internal", "An internal error occurred. Try again.")
        if accident in {"reset", "hang"}:
            return Reply(b"", accident, self._dice.delay())
        if faults.quota_factor:
            bucket = (session.account_id, call.region, operation)
            if not self.quotas.take(bucket, call.now, faults.quota_factor, faults.background):
                raise refused(call.service, "throttled", "Rate exceeded")
        if session.expires is not None:
            session.calls += 1
            if faults.expire_after_calls is not None and session.calls > faults.expire_after_calls:
                session.expires = 0.0
                raise refused(call.service, "expired", "The security token included in the request is expired")
            gone = self.state.role_is_gone(session.account_id)
            self.state.calls_by_account[session.account_id] += 1
            if gone:
                raise call.denied("role")
        plain = self._answered(call)
        return Reply(plain.data, accident, self._dice.delay())

    def _session(self, credential: Credential, headers: Mapping[str, str]) -> Session:
        service, region = credential.service, credential.region
        if region not in self._regions:
            raise refused(service, "signature", f"Credential should be scoped to a valid region, not '{region}'.")
        host = headers.get("host", "").partition(":")[0].split(".")
        if host[-2:] == ["amazonaws", "com"] and (
            host[0] != service or (host[1] not in {region, "amazonaws"} and region != "us-east-1")
        ):
            raise refused(
                service, "signature", "Credential should be scoped to the service and region of the endpoint."
            )
        session = self.state.identities.caller(service, credential.access_key, headers.get("x-amz-security-token", ""))
        if session.expires is not None and session.expires <= time.time():
            raise refused(service, "expired", "The security token included in the request is expired")
        if service not in SCOPE_OF_ROLES and region in self.state.world.parameters.opt_in:
            account = self.state.world.account(session.account_id)
            if account is None or region not in account.opt_ins:
                raise refused(service, "unknown token", INVALID)
        return session

    def _asked(
        self, service: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, Mapping[str, Any]]:
        """Operation and parameters. Raises RefusedError for what is not answered here."""
        operation = ""
        asked: Mapping[str, Any] = {}
        if aimed := headers.get("x-amz-target"):
            prefix, _, name = aimed.rpartition(".")
            operation = f"{TARGETS.get(prefix, prefix)}:{name}"
            asked = _json(service, body)
        elif service == "s3":
            operation, asked = _s3(method, target, headers)
        elif target in PATHS:
            operation = PATHS[target]
            asked = _json(service, body)
        else:
            asked = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            operation = f"{service}:{asked.get('Action', '')}"
        if operation not in HANDLERS:
            raise refused(service, "operation", f"{operation} is not an operation of this endpoint.")
        if not operation.startswith(f"{service}:"):
            message = f"Credential should be scoped to correct service, not '{service}'."
            raise refused(service, "signature", message)
        return operation, asked


def _credential(headers: Mapping[str, str]) -> Credential:
    found = Credential.read(headers.get("authorization", ""))
    if found is None:
        raise RefusedError("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
    return found


def _json(service: str, body: bytes) -> Mapping[str, Any]:
    try:
        asked = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise RefusedError("SerializationException", 400, "The body is not JSON.") from error
    if not isinstance(asked, dict):
        raise refused(service, "value", "The body is not a JSON object.")
    return asked


def _s3(method: str, target: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Path style: the bucket is the path."""
    path, _, query = target.partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    if method != "GET":
        return f"s3:{method}", asked
    bucket = unquote(path[1:].rstrip("/"))
    if not bucket:
        return "s3:ListBuckets", asked
    operation = next((BUCKET_QUESTIONS[name] for name in asked if name in BUCKET_QUESTIONS), "s3:ListObjects")
    owner = headers.get("x-amz-expected-bucket-owner")
    return operation, {**asked, "Bucket": bucket, **({"x-amz-expected-bucket-owner": owner} if owner else {})}
