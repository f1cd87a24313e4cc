"""A local AWS endpoint: moto behind a proxy that records every call and can inject errors.

    with AwsServer() as server:
        session = server.session()          # of the management account
        member = server.session("111122223333", region="eu-west-1")

`python -m demo.server --port 0 --port-file port.txt` runs it stand-alone until it is interrupted.

Listings that moto lacks are empty (`EMPTY_LISTINGS`). Another operation that it lacks gets the AWS error for an operation
that does not exist: JSON and CBOR services return 400 `UnknownOperationException`, query services 400 `InvalidAction`,
REST-JSON services 404 `UnknownOperationException`, S3 501 `NotImplemented`. An exception inside moto becomes a 500
`InternalFailure`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import signal
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from typing import Any, Literal, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.iam.models import get_account_id_from
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import run_wsgi_app

from demo import moto_patches, request_parser

MANAGEMENT_ACCOUNT = "123456789012"  # moto's default: unknown access keys belong to it
MEMBER_ROLE = "OrganizationAccountAccessRole"  # AWS Organizations creates it in every new account
ROOT_ACCESS_KEY = "AKIAKMSLEDGERDEMO000"
HOME_REGION = "us-east-1"

EMPTY_LISTINGS = {
    ("elasticache", "DescribeServerlessCacheSnapshots"): "ServerlessCacheSnapshots",
    ("elasticache", "DescribeServerlessCaches"): "ServerlessCaches",
    ("kms", "DescribeCustomKeyStores"): "CustomKeyStores",
    ("rds", "DescribeDBClusterAutomatedBackups"): "DBClusterAutomatedBackups",
}
"""Operations of the crawl that moto lacks, with the list in their response: the organization has no such resources."""

Outcome = Literal["answered", "injected", "missing", "crashed"]


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded request.

    `service` is the signing name, `operation` the API operation ("" when no model matches), `account` the account that
    owns the access key. `outcome`: answered by moto, injected by a fault, missing in moto, crashed in moto.
    """

    service: str
    operation: str
    region: str
    account: str
    access_key: str
    status: int
    outcome: Outcome


@dataclass(slots=True)
class Fault:
    """An error to inject; `remaining` counts down, None means unlimited. None in a filter matches everything."""

    service: str
    operation: str
    region: str | None
    account: str | None
    match: str | None
    code: str
    message: str
    status: int
    remaining: int | None

    def matches(self, request: request_parser.Request, account: str) -> bool:
        """Whether this fault applies to a request of an account."""
        return (
            self.remaining != 0
            and self.service == request.service
            and self.operation in {"*", request.operation}
            and self.region in {None, request.region}
            and self.account in {None, account}
            and (self.match is None or self.match in request.text)
        )


class Session(boto3.Session):
    """A boto3 session whose clients use the demo server, with path-style addressing for S3."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        self._url = url

    def client(self, *args: Any, **options: Any) -> Any:
        """A client with the endpoint of the demo server."""
        defaults = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=8)
        config = options.pop("config", None)
        options["config"] = defaults.merge(config) if config else defaults
        return super().client(*args, **{"endpoint_url": self._url, **options})


class _Handler(MotoRequestHandler):
    """moto's request handler without logging; werkzeug closes every connection after one response."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: with Nagle, a response can wait for an ACK

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Log nothing: `AwsServer.calls` is the log."""


class _Dispatcher(DomainDispatcherApplication):
    """moto's dispatcher with a cache, and with a clean error for a service that moto lacks."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        """The name of moto's backend for a host. Raises NotImplementedError if there is none."""
        if host is None:
            return None
        if host not in self._backends:
            known = "." not in host or any(pattern.match(f"http://{host}") for _, pattern in self.backend_url_patterns)
            if not known:
                raise NotImplementedError(host)
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


class AwsServer:
    """moto on 127.0.0.1 in this process, with a record of calls and fault injection.

    Only one server can run in a process at a time, because moto keeps its state in module globals.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._faults: list[Fault] = []
        self._members: dict[str, dict[str, str]] = {}
        self._loader = Loader()  # shared by all sessions, because parsing a service model takes longer than a call
        self._app = _Dispatcher()
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        moto_patches.apply()
        self._server = make_server("127.0.0.1", self._port, self._serve, threaded=True, request_handler=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws-server", daemon=True)
        self._thread.start()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def port(self) -> int:
        """The TCP port of the server."""
        if self._server is None:
            raise RuntimeError("The demo server is not running; enter its context first.")
        return self._server.port

    @property
    def url(self) -> str:
        """The endpoint for every service, region and account."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Call]:
        """All calls since the start or the last reset, in the order of their responses."""
        with self._lock:
            return list(self._calls)

    def mark(self) -> int:
        """The current position in the record of calls, for `calls_since`."""
        with self._lock:
            return len(self._calls)

    def calls_since(self, mark: int) -> list[Call]:
        """The calls recorded after `mark`."""
        with self._lock:
            return self._calls[mark:]

    def fault(
        self,
        service: str,
        operation: str,
        *,
        region: str | None = None,
        account: str | None = None,
        match: str | None = None,
        code: str = "AccessDeniedException",
        message: str = "User is not authorized to perform this operation.",
        status: int = 400,
        times: int | None = None,
    ) -> None:
        """Fail calls of `operation` ("*": any) with this error, in the wire format of the service.

        `account` is the caller's account, `match` a text in path, query or body (a key id, a role ARN), `times` the number
        of calls to fail. The fault that was added last takes precedence.
        """
        with self._lock:
            self._faults.insert(0, Fault(service, operation, region, account, match, code, message, status, times))

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def reset(self) -> None:
        """Delete all resources of all accounts, faults and recorded calls."""
        BackendDict.reset()
        reset_model_data()
        with self._lock:
            self._calls.clear()
            self._faults.clear()
            self._members.clear()

    def session(self, account_id: str | None = None, region: str = HOME_REGION) -> Session:
        """A session of the management account, or of a member account through AssumeRole.

        Raises botocore's ClientError if AssumeRole is denied (by a fault).
        """
        keys = {"AccessKeyId": ROOT_ACCESS_KEY, "SecretAccessKey": "secret"}
        if account_id not in {None, MANAGEMENT_ACCOUNT}:
            keys = self._member(str(account_id))
        core = botocore.session.Session()
        core.register_component("data_loader", self._loader)
        return Session(
            self.url,
            botocore_session=core,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys.get("SessionToken"),
            region_name=region,
        )

    def set_database_status(self, account_id: str, region: str, identifier: str, status: str) -> None:
        """Set a status of an RDS instance that no API call sets, as AWS does after its key was disabled."""
        from moto.rds.models import rds_backends

        rds_backends[account_id][region].databases[identifier].status = status

    def set_key_use(
        self, key: str, operation: str | None, at: dt.datetime | None = None, *, created: dt.datetime | None = None
    ) -> None:
        """Set the last use of a key (its ARN): the operation (None: never) and time (None: now); and its creation date."""
        from moto.kms.models import kms_backends

        _, _, _, region, account_id, _ = key.split(":", 5)
        moto_key: Any = kms_backends[account_id][region].describe_key(key)
        moto_key.last_use = (operation, at or dt.datetime.now(dt.UTC)) if operation else None
        if created is not None:
            moto_key.creation_date = created.timestamp()

    def end_waiting_period(self, key: str) -> None:
        """Delete a key (its ARN) that is scheduled for deletion, with its aliases."""
        from moto.kms.models import kms_backends

        _, _, _, region, account_id, _ = key.split(":", 5)
        backend: Any = kms_backends[account_id][region]
        moto_key = backend.describe_key(key)
        del backend.keys[moto_key.id]

    def set_management_account(self, name: str, email: str) -> None:
        """Set the name of the management account, which no organization API call sets."""
        from moto.organizations.models import organizations_backends

        backend = organizations_backends[MANAGEMENT_ACCOUNT]["aws"]
        account = backend.get_account_by_id(MANAGEMENT_ACCOUNT)
        account.name, account.email = name, email

    def _member(self, account_id: str) -> dict[str, str]:
        with self._lock:
            credentials = self._members.get(account_id)
        if credentials is None:
            role = f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}"
            sts = self.session().client("sts")
            credentials = dict(sts.assume_role(RoleArn=role, RoleSessionName="demo")["Credentials"])
            with self._lock:
                self._members[account_id] = credentials
        return credentials

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The WSGI application: records the request, and injects a fault or forwards it to moto."""
        request = _request(environ)
        account = get_account_id_from(request.access_key)
        if fault := self._take_fault(request, account):
            outcome: Outcome = "injected"
            response = request_parser.error(request, fault.code, fault.message, fault.status)
        elif member := EMPTY_LISTINGS.get((request.service, request.operation)):
            outcome, response = "answered", request_parser.empty_list(request, member)
        else:
            outcome, response = self._call_moto(environ, request)
        if request.service:
            call = Call(
                request.service,
                request.operation,
                request.region,
                account,
                request.access_key,
                response.status,
                outcome,
            )
            with self._lock:
                self._calls.append(call)
        headers = response.headers
        if not any(name.lower() == "content-length" for name, _ in headers):  # a HEAD response already has it
            headers = [*headers, ("Content-Length", str(len(response.body)))]
        start_response(f"{response.status} {responses.get(response.status, 'Unknown')}", headers)
        return [response.body]

    def _take_fault(self, request: request_parser.Request, account: str) -> Fault | None:
        with self._lock:
            fault = next((fault for fault in self._faults if fault.matches(request, account)), None)
            if fault and fault.remaining is not None:
                fault.remaining -= 1
            return fault

    def _call_moto(
        self, environ: dict[str, Any], request: request_parser.Request
    ) -> tuple[Outcome, request_parser.Response]:
        try:
            body, status, headers = run_wsgi_app(self._app, environ, buffered=True)
            content = b"".join(body)
        except NotImplementedError:
            return "missing", request_parser.not_implemented(request)
        except Exception as problem:  # noqa: BLE001 - an exception in moto must reach the client as an AWS error
            return "crashed", request_parser.error(
                request, "InternalFailure", f"{type(problem).__name__}: {problem}", 500
            )
        code = int(status.split()[0])
        page = headers.get("Content-Type", "").startswith("text/html") and content.startswith(b"<!doctype html>")
        if code in {404, 405} and page:  # Flask's error page: moto has no such route
            return "missing", request_parser.not_implemented(request)
        return "answered", request_parser.Response(code, list(headers.items()), content)


def _request(environ: dict[str, Any]) -> request_parser.Request:
    """Read the complete request and leave a copy of the body for moto."""
    stream = environ["wsgi.input"]
    chunked = environ.pop("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
    body = stream.read() if chunked else stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    return request_parser.parse(
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", "/"),
        environ.get("QUERY_STRING", ""),
        _headers(environ),
        body,
    )


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return headers


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted; write the port to a file once the server is ready."""
    parser = argparse.ArgumentParser(prog="python -m demo.server", description="A local AWS endpoint (moto).")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (0: any free port)")
    parser.add_argument("--port-file", type=Path, help="file to write the port to once it is open")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with AwsServer(options.port) as server:
        if options.port_file:
            partial = options.port_file.with_suffix(".partial")
            partial.write_text(f"{server.port}\n", encoding="ascii")
            partial.replace(options.port_file)  # atomic: a reader never sees half a port
        print(f"AWS (moto) listens on {server.url}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
