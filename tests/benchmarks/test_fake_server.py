"""The server: HTTP, TLS, a separate process, quotas, the admin API."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fake_aws import quotas
from benchmarks.fake_aws.client import ROOT, FakeAws, Session
from benchmarks.fake_aws.presets import preset

pytestmark = pytest.mark.deep  # the endpoint of tests and benchmarks, not the product

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential={key}/20261120/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0"


def request(fake: FakeAws, operation: str, body: bytes = b"{}") -> bytes:
    """A raw request, with a signature that is not verified."""
    credential = AUTHORIZATION.format(key=fake.world.access_key)
    return (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: TrentService.{operation}\r\n"
        f"AUTHORIZATION:{credential}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def responses(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read status and body of `count` responses from a connection."""
    stream = connection.makefile("rb")
    responses_read = []
    for _ in range(count):
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        responses_read.append((status, stream.read(length)))
    return responses_read


def connect(fake: FakeAws) -> socket.socket:
    port = int(fake.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.fixture(scope="module")
def process_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAws]:
    """The endpoint in a separate process, with TLS."""
    directory = tmp_path_factory.mktemp("tls")
    with FakeAws(preset("tiny", seed=7), process=True, tls=directory, day=1) as fake:
        yield fake


def test_pipelined_responses_keep_their_order(fake: FakeAws) -> None:
    """Three requests in one packet, then one byte by byte: the responses are in order, also with latency."""
    requests = request(fake, "ListKeys") + request(fake, "ListAliases") + request(fake, "DescribeCustomKeyStores")
    for latency in (0, 20):
        fake.control.faults(latency_ms=latency)
        with connect(fake) as connection:
            connection.sendall(requests)
            response = [next(iter(json.loads(body))) for _, body in responses(connection, 3)]
            assert response == ["Keys", "Aliases", "CustomKeyStores"]
            for byte in request(fake, "ListAliases"):
                connection.sendall(bytes([byte]))
            assert b"Aliases" in responses(connection, 1)[0][1]


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 403),
        (b"GET /_fake/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
)
def test_malformed_requests_are_rejected(requests: bytes, status: int, fake: FakeAws) -> None:
    """A malformed request gets an error response, and the next connection works."""
    with connect(fake) as connection:
        connection.sendall(requests)
        assert int(connection.recv(4096).split()[1]) == status
    with connect(fake) as connection:
        connection.sendall(request(fake, "ListKeys"))
        assert responses(connection, 1)[0][0] == 200


def test_expect_100_continue(fake: FakeAws) -> None:
    """The server sends 100 Continue before the client sends the body."""
    raw_request = request(fake, "ListKeys").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with connect(fake) as connection:
        connection.sendall(raw_request[:-2])
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(raw_request[-2:])
        assert responses(connection, 1)[0][0] == 200


def test_unknown_operations_and_wrong_scopes_are_rejected(fake: FakeAws) -> None:
    """Unknown operations, and a signature for another service, are errors."""
    wrong = request(fake, "ListKeys").replace(b"us-east-1/kms/", b"us-east-1/secretsmanager/")
    with connect(fake) as connection:
        connection.sendall(
            request(fake, "Decrypt") + wrong + request(fake, "ListKeys", b"[]") + request(fake, "ListKeys", b"{")
        )
        codes = [json.loads(body)["__type"] for _, body in responses(connection, 4)]
    assert codes == [
        "UnknownOperationException",
        "InvalidSignatureException",
        "ValidationException",
        "SerializationException",
    ]


def test_connections_and_requests_are_counted(fake: FakeAws) -> None:
    """The counters contain calls by operation, errors, connections and requests."""
    for count in (1, 3):
        with connect(fake) as connection:
            connection.sendall(request(fake, "ListKeys") * count)
            responses(connection, count)
    counted = fake.control.counters()
    assert counted["operations"] == {"kms:ListKeys": 4}
    assert counted["requests"] == 4
    assert counted["connections"] >= 2
    assert counted["tls_connections"] == 0


def test_a_process_serves_tls(process_fake: FakeAws) -> None:
    """A client that trusts the CA gets the data of the configured day; another client rejects the certificate."""
    account = process_fake.world.accounts[1].id
    account_region = process_fake.world.account_region(account, "us-east-1", day=1)
    client = process_fake.session(account).client("kms")
    keys = [key["KeyId"] for page in client.get_paginator("list_keys").paginate() for key in page["Keys"]]
    assert keys == account_region.key_ids
    assert process_fake.control.counters()["tls_connections"] >= 2
    host, port = "localhost", int(process_fake.url.rpartition(":")[2])
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(host, port, context=ssl.create_default_context()).request("GET", "/_fake/counters")


def test_tokens_are_valid_in_every_process_with_the_same_seed(process_fake: FakeAws, fake: FakeAws) -> None:
    """Tokens contain account and expiry: another server with the same parameters accepts them."""
    account = fake.world.accounts[1].id
    other_session = Session(process_fake, *fake.session(account).keys)
    assert other_session.client("sts", "eu-west-1").get_caller_identity()["Account"] == account


def test_a_process_is_controlled_over_http(process_fake: FakeAws) -> None:
    """The admin API sets faults and the day, and rejects invalid requests."""
    account = process_fake.world.accounts[2].id
    client = process_fake.session(account).client("secretsmanager")
    for day in (0, 40):
        process_fake.control.set_day(day)
        names = [s["Name"] for page in client.get_paginator("list_secrets").paginate() for s in page["SecretList"]]
        secrets = process_fake.world.account_region(account, "us-east-1", day).secrets
        assert names == [secret["Name"] for secret in secrets if "DeletedDate" not in secret]
    process_fake.control.faults(throttle=1.0)
    with pytest.raises(client.exceptions.ClientError, match="ThrottlingException"):
        client.list_secrets()
    process_fake.control.faults()
    client.list_secrets()
    response = process_fake.control.world()
    assert response["access_key"] == process_fake.world.access_key
    assert [each["id"] for each in response["accounts"]] == [each.id for each in process_fake.world.accounts]
    with pytest.raises(ValueError, match="day"):
        process_fake.control._request("POST", "day", {})
    process_fake.control.reset()
    assert process_fake.control.counters()["requests"] == 0


def test_the_command_prints_address_and_credentials(tmp_path: Path) -> None:
    """The command prints address and credentials, and exits with 0 on SIGTERM."""
    command = [sys.executable, "-m", "benchmarks.fake_aws", "--preset", "tiny", "--seed", "9"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
    assert re.fullmatch(r"AWS listens on http://127\.0\.0\.1:\d+\n", first)
    assert second.startswith("AWS_ACCESS_KEY_ID=AKIA")
    assert not list(tmp_path.iterdir())


def test_a_bucket_refills_at_its_rate() -> None:
    """A bucket allows a burst of one second, then the rate minus the share of other workloads."""
    bucket = ("111122223333", "eu-west-1", "kms:ListGrants")
    alone, shared = quotas.Quotas(), quotas.Quotas()
    passed = [0, 0]
    for tick in range(5_000):
        now = 1_000 + tick / 500
        passed[0] += alone.take(bucket, now, 1.0, {})
        passed[1] += shared.take(bucket, now, 1.0, {"kms:ListGrants": 0.6})
    assert 1_090 <= passed[0] <= 1_101
    assert 490 <= passed[1] <= 501
    assert alone.take(("111122223333", "eu-west-2", "kms:ListGrants"), 1_010, 1.0, {})
    (window,) = [each for each in shared.report() if each["window"] == 100]
    assert window["passed"] + window["throttled"] == 5_000
    assert all(shared.take((*bucket[:2], "s3:ListBuckets"), 1_000, 1.0, {}) for _ in range(100))


def test_quotas_throttle_on_the_wire(fake: FakeAws) -> None:
    """Only the account-region over its quota is throttled, and requests are counted by window."""
    accounts = [fake.world.accounts[index].id for index in (1, 2)]
    clients = [fake.session(account).client("kms") for account in accounts]
    clients[1].list_aliases()
    fake.control.faults(quota_factor=0.001)
    clients[0].describe_custom_key_stores()
    with pytest.raises(clients[0].exceptions.ClientError, match="ThrottlingException"):
        clients[0].describe_custom_key_stores()
    clients[0].list_aliases()
    clients[1].describe_custom_key_stores()
    counted = {
        (each["account"], each["operation"]): (each["passed"], each["throttled"]) for each in fake.control.buckets()
    }
    assert counted[accounts[0], "kms:DescribeCustomKeyStores"] == (1, 1)
    assert counted[accounts[1], "kms:DescribeCustomKeyStores"] == (1, 0)


def test_a_hanging_connection_is_reset(fake: FakeAws) -> None:
    """A hanging call ends with a connection reset after the configured time."""
    fake.control.faults(hang=1.0, hang_seconds=0.1)
    started = time.monotonic()
    with connect(fake) as connection:
        connection.sendall(request(fake, "ListKeys"))
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert time.monotonic() - started >= 0.1
