"""The server itself: HTTP on the wire, TLS, a process of its own, quotas, the control."""

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

NOBODY = "AWS4-HMAC-SHA256 Credential={key}/20261120/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0"


def request(fake: FakeAws, operation: str, body: bytes = b"{}") -> bytes:
    """A call as bytes, with a signature that is not verified."""
    credential = NOBODY.format(key=fake.world.access_key)
    return (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: TrentService.{operation}\r\n"
        f"AUTHORIZATION:{credential}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers, as they come out of one connection."""
    stream = connection.makefile("rb")
    found = []
    for _ in range(count):
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        found.append((status, stream.read(length)))
    return found


def connect(fake: FakeAws) -> socket.socket:
    port = int(fake.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAws]:
    """A process of its own, with TLS."""
    directory = tmp_path_factory.mktemp("tls")
    with FakeAws(preset("tiny", seed=7), process=True, tls=directory, night=1) as fake:
        yield fake


def test_pipelined_requests_are_answered_in_their_order(fake: FakeAws) -> None:
    """Three requests in one packet, then one in single bytes: each answer belongs to its request, also when they are slow."""
    sent = request(fake, "ListKeys") + request(fake, "ListAliases") + request(fake, "DescribeCustomKeyStores")
    for latency in (0, 20):
        fake.control.faults(latency_ms=latency)
        with connect(fake) as connection:
            connection.sendall(sent)
            told = [next(iter(json.loads(body))) for _, body in answers(connection, 3)]
            assert told == ["Keys", "Aliases", "CustomKeyStores"]
            for byte in request(fake, "ListAliases"):
                connection.sendall(bytes([byte]))
            assert b"Aliases" in answers(connection, 1)[0][1]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 403),
        (b"GET /_fake/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
)
def test_what_cannot_be_read_is_refused(sent: bytes, status: int, fake: FakeAws) -> None:
    """A malformed request gets an answer, and the next connection works as before."""
    with connect(fake) as connection:
        connection.sendall(sent)
        assert int(connection.recv(4096).split()[1]) == status
    with connect(fake) as connection:
        connection.sendall(request(fake, "ListKeys"))
        assert answers(connection, 1)[0][0] == 200


def test_a_client_may_wait_for_the_go_ahead(fake: FakeAws) -> None:
    """Expect: 100-continue is answered before the body is sent."""
    whole = request(fake, "ListKeys").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with connect(fake) as connection:
        connection.sendall(whole[:-2])
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(whole[-2:])
        assert answers(connection, 1)[0][0] == 200


def test_unknown_operations_and_wrong_scopes_are_refused(fake: FakeAws) -> None:
    """Operations that are not answered, and a signature for another service than the one that is asked."""
    wrong = request(fake, "ListKeys").replace(b"us-east-1/kms/", b"us-east-1/secretsmanager/")
    with connect(fake) as connection:
        connection.sendall(
            request(fake, "Decrypt") + wrong + request(fake, "ListKeys", b"[]") + request(fake, "ListKeys", b"{")
        )
        codes = [json.loads(body)["__type"] for _, body in answers(connection, 4)]
    assert codes == [
        "UnknownOperationException",
        "InvalidSignatureException",
        "ValidationException",
        "SerializationException",
    ]


def test_connections_and_requests_are_counted(fake: FakeAws) -> None:
    """What a benchmark reads: calls an operation, errors, connections and how much each was used."""
    for count in (1, 3):
        with connect(fake) as connection:
            connection.sendall(request(fake, "ListKeys") * count)
            answers(connection, count)
    counted = fake.control.counters()
    assert counted["operations"] == {"kms:ListKeys": 4}
    assert counted["requests"] == 4
    assert counted["connections"] >= 2
    assert counted["tls_connections"] == 0


def test_a_process_serves_tls(apart: FakeAws) -> None:
    """A client that trusts the authority gets what the world says of the night that was set; another gets nothing."""
    account = apart.world.accounts[1].id
    place = apart.world.place(account, "us-east-1", night=1)
    client = apart.session(account).client("kms")
    keys = [key["KeyId"] for page in client.get_paginator("list_keys").paginate() for key in page["Keys"]]
    assert keys == place.key_ids
    assert apart.control.counters()["tls_connections"] >= 2
    host, port = "localhost", int(apart.url.rpartition(":")[2])
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(host, port, context=ssl.create_default_context()).request("GET", "/_fake/counters")


def test_tokens_are_good_at_every_process_of_a_seed(apart: FakeAws, fake: FakeAws) -> None:
    """Account and expiry are in the token: another server of the same world takes it."""
    account = fake.world.accounts[1].id
    stranger = Session(apart, *fake.session(account).keys)
    assert stranger.client("sts", "eu-west-1").get_caller_identity()["Account"] == account


def test_a_process_is_steered_over_http(apart: FakeAws) -> None:
    """Faults and nights are set from outside, and told; nonsense is refused."""
    account = apart.world.accounts[2].id
    client = apart.session(account).client("secretsmanager")
    for night in (0, 40):
        apart.control.night(night)
        names = [s["Name"] for page in client.get_paginator("list_secrets").paginate() for s in page["SecretList"]]
        secrets = apart.world.place(account, "us-east-1", night).secrets
        assert names == [secret["Name"] for secret in secrets if "DeletedDate" not in secret]
    apart.control.faults(throttle=1.0)
    with pytest.raises(client.exceptions.ClientError, match="ThrottlingException"):
        client.list_secrets()
    apart.control.faults()
    client.list_secrets()
    told = apart.control.world()
    assert told["access_key"] == apart.world.access_key
    assert [each["id"] for each in told["accounts"]] == [each.id for each in apart.world.accounts]
    with pytest.raises(ValueError, match="night"):
        apart.control._ask("POST", "night", {})
    apart.control.reset()
    assert apart.control.counters()["requests"] == 0


def test_the_command_says_where_it_answers(tmp_path: Path) -> None:
    """By hand: address and credentials are printed, SIGTERM ends it in good order."""
    command = [sys.executable, "-m", "benchmarks.fake_aws", "--preset", "tiny", "--seed", "9"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
    assert re.fullmatch(r"AWS answers on http://127\.0\.0\.1:\d+\n", first)
    assert second.startswith("AWS_ACCESS_KEY_ID=AKIA")
    assert not list(tmp_path.iterdir())


def test_a_bucket_refills_at_its_rate() -> None:
    """A second's worth at once, then the rate; what production takes is not there for the reader."""
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
    """An account-region over its quota is throttled there and nowhere else, and its requests are told by window."""
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


def test_a_hanging_connection_ends_by_itself(fake: FakeAws) -> None:
    """After its time a hanging call ends in a reset, not in an answer."""
    fake.control.faults(hang=1.0, hang_seconds=0.1)
    started = time.monotonic()
    with connect(fake) as connection:
        connection.sendall(request(fake, "ListKeys"))
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert time.monotonic() - started >= 0.1
