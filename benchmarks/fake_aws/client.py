"""Starts and controls the endpoint: in a thread for tests, in a separate process for load tests.

with FakeAws(preset("tiny")) as fake:                      # in a thread
    client = fake.session(account_id).client("kms", "eu-west-1")
    fake.control.faults(throttle=0.3)

with FakeAws(preset("large"), process=True, tls=directory) as fake:
    ...                                                    # fake.url, fake.ca_bundle
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import boto3
import botocore.session
from botocore.config import Config

from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.server import Server
from benchmarks.fake_aws.service import Service
from benchmarks.fake_aws.world_state import World
from demo import certificates

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 30.0
"""Seconds until the endpoint must respond."""


class AdminClient:
    """A client for the admin API of a running endpoint."""

    def __init__(self, port: int, ca_bundle: Path | None) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(ca_bundle)) if ca_bundle else None

    def counters(self) -> dict[str, Any]:
        """Operations, errors, accidents, connections and requests since the start or the last reset."""
        document: dict[str, Any] = self._request("GET", "counters")
        return document

    def buckets(self) -> list[dict[str, Any]]:
        """Requests by quota bucket and ten-second window since faults were last set."""
        document: list[dict[str, Any]] = self._request("GET", "buckets")
        return document

    def world(self) -> dict[str, Any]:
        """Accounts, credentials, role and parameters."""
        document: dict[str, Any] = self._request("GET", "world")
        return document

    def faults(self, faults: Faults | None = None, **fields: Any) -> None:
        """Replace the faults: `Faults`, or its fields that differ from the default. Without arguments: remove all faults."""
        self._request("POST", "faults", (faults or Faults(**fields)).to_json())

    def enforce(self, identity: dict[str, Any] | None = None, **roles: dict[str, Any]) -> None:
        """Enforce the policy of the crawler's identity, and `permissions` and `trust` of roles. Without arguments: none."""
        self._request("POST", "policies", {"identity": identity, "roles": roles} if identity is not None else None)

    def authorized(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Allowed and denied calls since policies were last set: account of the caller and action."""
        report = self._request("GET", "authorized")
        return {(account, action) for account, action in report["allowed"]}, {
            (account, action) for account, action in report["denied"]
        }

    def set_day(self, day: int) -> None:
        """Set the day of the simulated history."""
        self._request("POST", "day", {"day": day})

    def reset(self) -> None:
        """Reset the counters."""
        self._request("POST", "reset")

    def _request(self, method: str, what: str, body: Any = None) -> Any:
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection("localhost", self._port, timeout=TIMEOUT_S, context=self._tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/_fake/{what}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            document = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(document["message"])
        return document


class FakeAws:
    """The endpoint, started and stopped by a `with` block."""

    def __init__(  # noqa: PLR0917 - all but the first are passed by name
        self,
        parameters: Parameters,
        faults: Faults | None = None,
        day: int = 0,
        tls: Path | None = None,
        process: bool = False,
        port: int = 0,
    ) -> None:
        """`tls` is a directory for the certificates (created if missing); `process` starts a separate process."""
        self.world = World(parameters)
        """The organization that the endpoint serves, to compare with."""
        self.ca_bundle: Path | None = None
        self._faults = faults or Faults()
        self._day = day
        self._directory = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._as_process = process
        self._port = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._loaders: Any = None
        self._own: Session

    def __enter__(self) -> Self:
        if self._as_process:
            self._spawn()
        else:
            self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fake-aws", daemon=True)
            self._thread.start()
            if not self._started.wait(TIMEOUT_S):
                raise RuntimeError("the endpoint did not start")
        self.control = AdminClient(self._port, self.ca_bundle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(TIMEOUT_S)
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(TIMEOUT_S)

    @property
    def url(self) -> str:
        """The endpoint for every service, region and account."""
        return f"https://localhost:{self._port}" if self.ca_bundle else f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError if the endpoint runs in a thread."""
        if self._process is None:
            raise RuntimeError("the endpoint runs in a thread")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """Environment variables with the credentials; for the settings see `url` and `world.parameters`."""
        environment = {
            "AWS_ACCESS_KEY_ID": self.world.access_key,
            "AWS_SECRET_ACCESS_KEY": self.world.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return environment | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def session(self, account_id: str | None = None) -> Session:
        """A boto3 session of the management account, or of a member account through sts:AssumeRole."""
        if self._loaders is None:
            self._loaders = botocore.session.Session().get_component("data_loader")
            self._own = Session(self, self.world.access_key, self.world.secret_key, None)
        own = self._own
        if account_id is None or account_id == self.world.management.id:
            return own
        parameters = self.world.parameters
        role = f"arn:aws:iam::{account_id}:role/{parameters.role_name}"
        role_request = {"RoleArn": role, "RoleSessionName": "fake", "ExternalId": parameters.external_id or "none"}
        keys = own.client("sts", "us-east-1").assume_role(**role_request)["Credentials"]
        return Session(self, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    @property
    def loaders(self) -> Any:
        """A shared loader of botocore, because loading a service model takes longer than a thousand calls."""
        return self._loaders

    def _spawn(self) -> None:
        with tempfile.TemporaryDirectory(prefix="fake-aws-") as directory:
            port_file = Path(directory) / "port"
            command = [
                sys.executable,
                "-m",
                "benchmarks.fake_aws",
                "--port",
                str(self._port),
                "--port-file",
                str(port_file),
            ]
            command += ["--world", json.dumps(self.world.parameters.to_json()), "--day", str(self._day)]
            command += ["--faults", json.dumps(self._faults.to_json())]
            command += ["--tls-dir", str(self._directory)] if self._directory else []
            self._process = subprocess.Popen(command, cwd=ROOT)
            limit = time.monotonic() + TIMEOUT_S
            while not port_file.exists():
                if self._process.poll() is not None or time.monotonic() > limit:
                    self._process.kill()
                    raise RuntimeError("the endpoint did not start")
                time.sleep(0.02)
            self._port = int(port_file.read_text(encoding="ascii"))
        self.ca_bundle = self._directory / "ca.pem" if self._directory else None

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        context = None
        if self._directory:
            context, self.ca_bundle = tls_context(self._directory)
        server = Server(Service(self.world, self._faults, self._day), context)
        self._port = await server.start(self._port)
        self._started.set()
        await self._stopping.wait()
        await server.stop()


class Session:
    """Credentials and clients that call the endpoint without retries."""

    def __init__(self, fake: FakeAws, access_key: str, secret_key: str, token: str | None) -> None:
        core = botocore.session.Session()
        core.register_component("data_loader", fake.loaders)
        self.keys = (access_key, secret_key, token)
        """Access key, secret key, session token."""
        self._fake = fake
        self._clients: dict[tuple[str, str], Any] = {}
        self._session = boto3.Session(
            botocore_session=core,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
        )

    def client(self, service: str, region: str = "us-east-1", **options: Any) -> Any:
        """A boto3 client, cached unless it has options."""
        special = bool(options)
        cached = self._clients.get((service, region))
        if cached is not None and not special:
            return cached
        defaults = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1, "mode": "standard"})
        config = defaults.merge(options.pop("config", None) or Config())
        options.setdefault("verify", str(self._fake.ca_bundle) if self._fake.ca_bundle else None)
        created = self._session.client(
            service,  # type: ignore[call-overload]  # the service name is a variable
            region_name=region,
            endpoint_url=self._fake.url,
            config=config,
            **options,
        )
        if not special:
            self._clients[service, region] = created
        return created


def tls_context(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """The TLS context of a server with the certificates in `directory`, and the path of the CA certificate."""
    files = certificates.Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    if not files.key.exists():
        files = certificates.create(directory)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    return context, files.authority
