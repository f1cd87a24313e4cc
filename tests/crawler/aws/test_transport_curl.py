"""The curl transport compared with boto3, and its handling of TLS, proxies, endpoints and clock skew."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from crawler import crawl
from crawler.aws.endpoints import Endpoints
from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials, Transport
from crawler.aws.transport_curl import MAX_CONNECTIONS_PER_ENDPOINT, CurlTransport
from crawler.iam_policies import operations
from crawler.progress import Progress
from crawler.services.kms import LIST_KEYS
from demo import certificates
from demo.organization import World
from demo.server import AwsServer
from models.settings import AwsSettings, Settings
from models.store.engine import connect
from models.tables import versioned_tables
from models.tables.runs import Cause
from tests.crawler.aws.test_transports import make, serving

REGION = "us-east-1"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAws]:
    """The fake AWS behind TLS, with its own certificate authority."""
    with FakeAws(preset("tiny", seed=9), tls=tmp_path_factory.mktemp("tls")) as fake:
        yield fake


@pytest.fixture
def own_credentials(tls: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """Credentials of the fake's management account, also set in the environment."""
    for name in ("AWS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in tls.environment().items():
        if name != "AWS_CA_BUNDLE":
            monkeypatch.setenv(name, value)
    return Credentials(tls.world.access_key, tls.world.secret_key, None)


def keys(settings: AwsSettings, credentials: Credentials) -> int | AwsError:
    """List keys with the curl transport and return their number, or the error."""

    async def list_keys() -> int | AwsError:
        transport = CurlTransport(settings)
        try:
            return len((await transport.send(credentials, LIST_KEYS, REGION, {}))["Keys"])
        except AwsError as error:
            return error
        finally:
            transport.close()

    return asyncio.run(list_keys())


def aws(fake: FakeAws, **values: Any) -> AwsSettings:
    """Return settings for the fake that trust its certificate authority."""
    return AwsSettings.model_validate({"endpoint_url": fake.url, "ca_bundle": str(fake.ca_bundle), **values})


# --- the same results as boto3 ---------------------------------------------------------------------------------------


def ledger_of(fake: FakeAws, directory: Path, transport: str) -> dict[str, set[tuple[Any, ...]]]:
    """Crawl with one transport and return every fact and gap."""
    url = f"sqlite:///{directory / transport}.db"
    settings = Settings.model_validate(
        {
            "database": url,
            "aws": {"endpoint_url": fake.url, "ca_bundle": str(fake.ca_bundle)},
            "role": {"external_id": fake.world.parameters.external_id},
            "crawl": {"transport": transport, "quota_share_percent": 100, "iam": True},
        }
    )
    crawl.crawl(settings, "test", Progress(live=False))
    engine = connect(url)
    with engine.connect() as connection:
        rows = {}
        for name, model in versioned_tables().items():
            columns = [column for column in model.table().columns if column.name != "version_id"]
            rows[name] = {tuple(row) for row in connection.execute(select(*columns))}
    engine.dispose()
    return rows


@pytest.mark.deep
@pytest.mark.usefixtures("own_credentials")
def test_both_transports_produce_the_same_ledger(tls: FakeAws, tmp_path: Path) -> None:
    """For all operations, pages, edge cases and errors, the facts, causes, codes and messages are equal."""
    tls.control.reset()
    curl = ledger_of(tls, tmp_path, "curl")
    called = set(tls.control.counters()["operations"])
    boto3 = ledger_of(tls, tmp_path, "boto3")
    for name, rows in boto3.items():
        assert curl[name] == rows, name
    assert len(curl["gap"]) > 10
    uncalled = {str(operation) for operation in operations()} - called
    # Called only if ListAccounts or DescribeRegions return less, or for a tag filter.
    assert uncalled <= {
        "organizations:ListAccountsForParent",
        "organizations:ListTagsForResource",
        "account:ListRegions",
    }


def outcomes(transport: Transport, credentials: Credentials, world: World) -> dict[str, Any]:
    """Return the response or error of every declared operation in one account."""
    account = world.accounts["platform"]
    placeholders = {
        "@key_arn": world.granted_key_of_platform,
        "@title": "no-such-bucket",
        "@account_id": account,
        "@parent": "r-none",
        "@arn": f"arn:aws:elasticache:{REGION}:{account}:replicationgroup:none",
    }

    async def call_all() -> dict[str, Any]:
        results: dict[str, Any] = {}
        for operation in operations():
            if operation.name == "AssumeRole":
                continue  # its response differs each time
            params = {name: placeholders.get(str(value), value) for name, value in operation.params.items()}
            try:
                results[str(operation)] = answer = await transport.send(credentials, operation, REGION, params)
                for role in answer.get("RoleDetailList", ()):
                    role.pop("RoleLastUsed", None)  # changed by each of these calls
            except AwsError as error:
                results[str(operation)] = (error.cause, error.code, error.message)
        transport.close()
        return results

    return asyncio.run(call_all())


@pytest.mark.deep
def test_both_transports_parse_moto_responses_alike(aws_server: AwsServer, demo_world: World) -> None:
    """Parsed responses and errors are equal, operation by operation."""
    session = aws_server.session(demo_world.accounts["platform"]).get_credentials()
    assert session is not None
    frozen = session.get_frozen_credentials()
    credentials = Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token)
    settings = AwsSettings(endpoint_url=aws_server.url)
    ours = outcomes(make("curl", settings), credentials, demo_world)
    theirs = outcomes(make("boto3", settings), credentials, demo_world)
    assert {name for name in ours if ours[name] != theirs[name]} == set()


# --- connections -----------------------------------------------------------------------------------------------------


def test_connections_belong_to_the_endpoint(tls: FakeAws, own_credentials: Credentials) -> None:
    """Calls of many accounts share a limited number of TLS connections."""
    tls.control.reset()
    accounts = [account.id for account in tls.world.accounts if account.role == "good" and account.state == "ACTIVE"]
    sessions = [Credentials(*tls.session(account).keys) for account in accounts]

    async def many() -> int:
        transport = CurlTransport(aws(tls))
        calls = [transport.send(session, LIST_KEYS, REGION, {}) for session in sessions * 100]
        await asyncio.gather(*calls)
        opened = transport.connections
        transport.close()
        return opened

    assert len(sessions) >= 3
    assert asyncio.run(many()) <= MAX_CONNECTIONS_PER_ENDPOINT
    del own_credentials


def test_a_private_authority_is_trusted_by_setting_or_environment(
    tls: FakeAws, own_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aws.ca_bundle and AWS_CA_BUNDLE set the authority; without either the certificate is rejected with a clear code."""
    assert isinstance(keys(aws(tls), own_credentials), int)
    untrusted = keys(AwsSettings(endpoint_url=tls.url), own_credentials)
    assert isinstance(untrusted, AwsError)
    assert (untrusted.cause, untrusted.code) == (Cause.UNREACHABLE, "CertificateNotTrusted")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.ca_bundle))
    assert isinstance(keys(AwsSettings(endpoint_url=tls.url), own_credentials), int)


def test_the_wrong_authority_is_not_trusted(tls: FakeAws, own_credentials: Credentials, tmp_path: Path) -> None:
    """A certificate of another authority is rejected."""
    other = certificates.create(tmp_path / "other")
    error = keys(aws(tls, ca_bundle=str(other.authority)), own_credentials)
    assert isinstance(error, AwsError)
    assert error.code == "CertificateNotTrusted"


class Proxy:
    """A local forward proxy (HTTP CONNECT) that records its targets."""

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tunnels: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop accepting connections and wait for the tunnels to close."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        for tunnel in self._tunnels:
            tunnel.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._tunnels.append(threading.Thread(target=self._tunnel, args=(client,), daemon=True))
            self._tunnels[-1].start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        self.tunnels.append(target)
        host, _, port = target.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            forwarder = threading.Thread(target=_forward, args=(client, server), daemon=True)
            forwarder.start()
            _forward(server, client)
            forwarder.join()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_a_proxy_from_the_environment_is_used(
    tls: FakeAws, own_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY enables the proxy, NO_PROXY bypasses it."""
    proxy = Proxy()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert isinstance(keys(aws(tls), own_credentials), int)
    assert proxy.tunnels == [tls.url.removeprefix("https://")]
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert isinstance(keys(aws(tls), own_credentials), int)
    assert len(proxy.tunnels) == 1
    proxy.close()


# --- endpoints -------------------------------------------------------------------------------------------------------


def endpoint(service: str, region: str, **values: Any) -> tuple[str, str]:
    """Return address and signing region of a service."""
    resolved = Endpoints(AwsSettings.model_validate(values), botocore.session.Session()).find(service, region)
    return resolved.url, resolved.signing_region


@pytest.mark.usefixtures("own_credentials")
@pytest.mark.parametrize(
    ("service", "region", "values", "expected"),
    [
        ("kms", "eu-west-1", {}, ("https://kms.eu-west-1.amazonaws.com", "eu-west-1")),
        ("kms", "cn-north-1", {}, ("https://kms.cn-north-1.amazonaws.com.cn", "cn-north-1")),
        ("kms", "eusc-de-east-1", {}, ("https://kms.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1")),
        ("kms", "us-east-1", {"use_fips": True}, ("https://kms-fips.us-east-1.amazonaws.com", "us-east-1")),
        ("kms", "us-east-1", {"use_dualstack": True}, ("https://kms.us-east-1.api.aws", "us-east-1")),
        ("organizations", "eu-west-1", {}, ("https://organizations.us-east-1.amazonaws.com", "us-east-1")),
        ("sts", "us-gov-west-1", {"use_fips": True}, ("https://sts.us-gov-west-1.amazonaws.com", "us-gov-west-1")),
    ],
)
def test_endpoints_follow_partition_fips_and_dual_stack(
    service: str, region: str, values: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Botocore's endpoint rules determine address and signing region."""
    assert endpoint(service, region, **values) == expected


@pytest.mark.usefixtures("own_credentials")
def test_custom_endpoints_come_from_settings_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is aws.endpoints, aws.endpoint_url, AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example")
    assert endpoint("kms", REGION)[0] == "http://kms.example"
    assert endpoint("rds", REGION)[0] == "http://all.example"
    assert endpoint("kms", REGION, endpoint_url="http://set.example")[0] == "http://set.example"
    both = {"endpoint_url": "http://set.example", "endpoints": {"kms": "http://one.example"}}
    assert endpoint("kms", REGION, **both)[0] == "http://one.example"


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_clock_skew_is_corrected_once() -> None:
    """A skew error is followed by one retry with the server's time, which later calls use immediately."""
    ahead = dt.timedelta(hours=3)
    signed: list[dt.datetime] = []

    def reply(headers: Any) -> tuple[int, str, bytes]:
        date = dt.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        signed.append(date)
        if abs(date - (dt.datetime.now(dt.UTC) + ahead)) > dt.timedelta(minutes=5):
            return 403, "application/x-amz-json-1.1", b'{"__type":"RequestTimeTooSkewed","message":"skewed"}'
        return 200, "application/x-amz-json-1.1", b'{"Keys":[],"Truncated":false}'

    with serving(reply, clock=lambda: email.utils.format_datetime(dt.datetime.now(dt.UTC) + ahead, usegmt=True)) as url:

        async def twice() -> list[dict[str, Any]]:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            credentials = Credentials("AKIA", "secret", None)
            results = [await transport.send(credentials, LIST_KEYS, REGION, {}) for _ in range(2)]
            transport.close()
            return results

        assert asyncio.run(twice()) == [{"Keys": [], "Truncated": False}] * 2
    assert len(signed) == 3
