"""The wire against stock boto3 clients, and on the networks that it must cross: TLS, proxies, endpoints, wrong clocks."""

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
    """The fake endpoint behind TLS, with an authority of its own."""
    with FakeAws(preset("tiny", seed=9), tls=tmp_path_factory.mktemp("tls")) as fake:
        yield fake


@pytest.fixture
def own_credentials(tls: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """Credentials of the fake's management account, in the environment too."""
    for name in ("AWS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in tls.environment().items():
        if name != "AWS_CA_BUNDLE":
            monkeypatch.setenv(name, value)
    return Credentials(tls.world.access_key, tls.world.secret_key, None)


def keys(settings: AwsSettings, credentials: Credentials) -> int | AwsError:
    """How many keys one call lists through the wire, or how it failed."""

    async def ask() -> int | AwsError:
        transport = CurlTransport(settings)
        try:
            return len((await transport.send(credentials, LIST_KEYS, REGION, {}))["Keys"])
        except AwsError as error:
            return error
        finally:
            transport.close()

    return asyncio.run(ask())


def aws(fake: FakeAws, **values: Any) -> AwsSettings:
    """Settings that lead to the fake and trust its authority."""
    return AwsSettings.model_validate({"endpoint_url": fake.url, "ca_bundle": str(fake.ca_bundle), **values})


# --- the same results as boto3 ---------------------------------------------------------------------------------------


def ledger_of(fake: FakeAws, directory: Path, transport: str) -> dict[str, set[tuple[Any, ...]]]:
    """Every fact and gap of a whole crawl through one transport."""
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
        found = {}
        for name, model in versioned_tables().items():
            columns = [column for column in model.table().columns if column.name != "version_id"]
            found[name] = {tuple(row) for row in connection.execute(select(*columns))}
    engine.dispose()
    return found


@pytest.mark.usefixtures("own_credentials")
def test_a_whole_crawl_gives_the_same_ledger_through_both(tls: FakeAws, tmp_path: Path) -> None:
    """Every declared operation, all pages, all odd cases and every refusal: facts, causes, codes and messages are equal."""
    tls.control.reset()
    wire = ledger_of(tls, tmp_path, "curl")
    asked = set(tls.control.counters()["operations"])
    boto3 = ledger_of(tls, tmp_path, "boto3")
    for name, rows in boto3.items():
        assert wire[name] == rows, name
    assert len(wire["gap"]) > 10
    unasked = {str(operation) for operation in operations()} - asked
    # RecordedCall only where ListAccounts and DescribeRegions do not tell, or where a filter is about tags.
    assert unasked <= {
        "organizations:ListAccountsForParent",
        "organizations:ListTagsForResource",
        "account:ListRegions",
    }


def outcomes(transport: Transport, credentials: Credentials, world: World) -> dict[str, Any]:
    """What every declared operation answers in one account, or its error."""
    account = world.accounts["platform"]
    stand_in = {
        "@key_arn": world.granted_key_of_platform,
        "@title": "no-such-bucket",
        "@account_id": account,
        "@parent": "r-none",
        "@arn": f"arn:aws:elasticache:{REGION}:{account}:replicationgroup:none",
    }

    async def ask() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for operation in operations():
            if operation.name == "AssumeRole":
                continue  # its answer is new each time
            params = {name: stand_in.get(str(value), value) for name, value in operation.params.items()}
            try:
                found[str(operation)] = answer = await transport.send(credentials, operation, REGION, params)
                for role in answer.get("RoleDetailList", ()):
                    role.pop("RoleLastUsed", None)  # it is used by each of these calls
            except AwsError as error:
                found[str(operation)] = (error.cause, error.code, error.message)
        transport.close()
        return found

    return asyncio.run(ask())


@pytest.mark.deep
def test_every_operation_reads_moto_as_boto3_does(aws_server: AwsServer, demo_world: World) -> None:
    """Against another implementation of AWS: parsed answers and errors are equal, operation by operation."""
    session = aws_server.session(demo_world.accounts["platform"]).get_credentials()
    assert session is not None
    frozen = session.get_frozen_credentials()
    credentials = Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token)
    settings = AwsSettings(endpoint_url=aws_server.url)
    ours = outcomes(make("wire", settings), credentials, demo_world)
    theirs = outcomes(make("boto3", settings), credentials, demo_world)
    assert {name for name in ours if ours[name] != theirs[name]} == set()


# --- connections -----------------------------------------------------------------------------------------------------


def test_connections_belong_to_the_endpoint(tls: FakeAws, own_credentials: Credentials) -> None:
    """Many calls of many accounts share a bounded number of TLS connections."""
    tls.control.reset()
    accounts = [account.id for account in tls.world.accounts if account.role == "good" and account.state == "ACTIVE"]
    sessions = [Credentials(*tls.session(account).keys) for account in accounts]

    async def many() -> int:
        transport = CurlTransport(aws(tls))
        calls = [transport.send(held, LIST_KEYS, REGION, {}) for held in sessions * 100]
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
    """aws.ca_bundle and AWS_CA_BUNDLE name the authority; without either the certificate is refused, and said so."""
    assert isinstance(keys(aws(tls), own_credentials), int)
    untrusted = keys(AwsSettings(endpoint_url=tls.url), own_credentials)
    assert isinstance(untrusted, AwsError)
    assert (untrusted.cause, untrusted.code) == (Cause.UNREACHABLE, "CertificateNotTrusted")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.ca_bundle))
    assert isinstance(keys(AwsSettings(endpoint_url=tls.url), own_credentials), int)


def test_the_wrong_authority_is_not_trusted(tls: FakeAws, own_credentials: Credentials, tmp_path: Path) -> None:
    """Another authority's bundle does not open the client."""
    other = certificates.create(tmp_path / "other")
    refused = keys(aws(tls, ca_bundle=str(other.authority)), own_credentials)
    assert isinstance(refused, AwsError)
    assert refused.code == "CertificateNotTrusted"


class Proxy:
    """A forward proxy on loopback that tunnels (HTTP CONNECT) and remembers where to."""

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tunnels: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Take no more, and wait for the tunnels to end."""
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
            there = threading.Thread(target=_pour, args=(client, server), daemon=True)
            there.start()
            _pour(server, client)
            there.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_a_proxy_from_the_environment_is_used(
    tls: FakeAws, own_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY leads through the proxy, NO_PROXY past it."""
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
    """Address and signing region of a service."""
    found = Endpoints(AwsSettings.model_validate(values), botocore.session.Session()).find(service, region)
    return found.url, found.signing_region


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
    """The rules of botocore decide where a service is and what region signs."""
    assert endpoint(service, region, **values) == expected


@pytest.mark.usefixtures("own_credentials")
def test_custom_endpoints_come_from_settings_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """aws.endpoints before aws.endpoint_url before AWS_ENDPOINT_URL_<SERVICE> before AWS_ENDPOINT_URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example")
    assert endpoint("kms", REGION)[0] == "http://kms.example"
    assert endpoint("rds", REGION)[0] == "http://all.example"
    assert endpoint("kms", REGION, endpoint_url="http://set.example")[0] == "http://set.example"
    both = {"endpoint_url": "http://set.example", "endpoints": {"kms": "http://one.example"}}
    assert endpoint("kms", REGION, **both)[0] == "http://one.example"


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_a_wrong_clock_is_corrected_once_by_the_servers_date() -> None:
    """A refusal for the time is followed by one call with the server's time; what follows is right at once."""
    ahead = dt.timedelta(hours=3)
    signed: list[dt.datetime] = []

    def reply(headers: Any) -> tuple[int, str, bytes]:
        told = dt.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        signed.append(told)
        if abs(told - (dt.datetime.now(dt.UTC) + ahead)) > dt.timedelta(minutes=5):
            return 403, "application/x-amz-json-1.1", b'{"__type":"RequestTimeTooSkewed","message":"skewed"}'
        return 200, "application/x-amz-json-1.1", b'{"Keys":[],"Truncated":false}'

    with serving(reply, clock=lambda: email.utils.format_datetime(dt.datetime.now(dt.UTC) + ahead, usegmt=True)) as url:

        async def twice() -> list[dict[str, Any]]:
            transport = CurlTransport(AwsSettings(endpoint_url=url))
            held = Credentials("AKIA", "secret", None)
            found = [await transport.send(held, LIST_KEYS, REGION, {}) for _ in range(2)]
            transport.close()
            return found

        assert asyncio.run(twice()) == [{"Keys": [], "Truncated": False}] * 2
    assert len(signed) == 3
