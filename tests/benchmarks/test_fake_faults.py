"""Every fault, as a boto3 client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
import botocore.parsers
import pytest
from botocore.config import Config

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Denial, FaultInjector, Faults
from crawler.aws.errors import classify
from models.tables.runs import Cause

pytestmark = pytest.mark.deep  # the endpoint of tests and benchmarks, not the product

METHODS = {
    "kms": "list_keys",
    "secretsmanager": "list_secrets",
    "cloudtrail": "describe_trails",
    "organizations": "list_roots",
    "account": "list_regions",
    "rds": "describe_db_instances",
    "elasticache": "describe_snapshots",
    "ec2": "describe_regions",
    "sts": "get_caller_identity",
    "s3": "list_buckets",
}
THROTTLES = {
    "kms": "ThrottlingException",
    "secretsmanager": "ThrottlingException",
    "cloudtrail": "ThrottlingException",
    "organizations": "TooManyRequestsException",
    "account": "TooManyRequestsException",
    "rds": "Throttling",
    "elasticache": "Throttling",
    "ec2": "RequestLimitExceeded",
    "sts": "Throttling",
    "s3": "SlowDown",
}


def call(fake: FakeAws, service: str, session: Any = None, **options: Any) -> Any:
    client = (session or fake.session()).client(service, **options)
    return getattr(client, METHODS[service])()


def error_of(fake: FakeAws, service: str, session: Any = None) -> tuple[str, int, Cause]:
    """Code and status of the error of a call, and the cause that the crawler derives."""
    return error_of_call(lambda: call(fake, service, session))


def error_of_call(call: Callable[[], Any]) -> tuple[str, int, Cause]:
    """Like `error_of`, for a callable."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    response: Any = caught.value.response
    code, status = response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
    return code, status, classify(code, response["Error"].get("Message", ""), status)


@pytest.mark.parametrize("service", METHODS)
def test_a_throttle_has_the_code_of_its_service(service: str, fake: FakeAws) -> None:
    """Each service has its own throttling code, and the crawler recognizes all of them."""
    fake.control.faults(throttle=1.0)
    code, _, cause = error_of(fake, service)
    assert (code, cause) == (THROTTLES[service], Cause.THROTTLED)


@pytest.mark.parametrize("service", METHODS)
def test_an_internal_error_is_a_500_or_an_html_503(service: str, fake: FakeAws) -> None:
    """In the format of the service or as HTML of a proxy: the crawler treats both as transient."""
    client = fake.session().client(service)
    fake.control.faults(error=1.0, seed=3)
    seen = {error_of_call(getattr(client, METHODS[service]))[1:] for _ in range(16)}
    assert seen == {(500, Cause.SERVICE_ERROR), (503, Cause.SERVICE_ERROR)}


@pytest.mark.parametrize(
    ("kind", "exceptions"),
    [
        ("reset", (botocore.exceptions.ConnectionClosedError,)),
        ("cut", (botocore.exceptions.ConnectionClosedError, botocore.exceptions.ResponseStreamingError)),
    ],
)
def test_a_broken_connection_raises_a_connection_error(
    kind: str, exceptions: tuple[type[Exception], ...], fake: FakeAws
) -> None:
    """The connection is reset before the response or in the middle of it."""
    fake.control.faults(Faults.from_json({kind: 1.0}))
    with pytest.raises(exceptions):
        call(fake, "kms", fake.session())
    assert fake.control.counters()["accidents"] == {kind: 1}


def test_a_truncated_response_is_shorter_than_its_content_length(fake: FakeAws) -> None:
    """The connection is closed regularly. boto3 rejects broken XML, but parses broken JSON as an empty response."""
    session = fake.session()
    fake.control.faults(truncate=1.0)
    with pytest.raises(botocore.parsers.ResponseParserError):
        call(fake, "rds", session)
    response = call(fake, "kms", session)
    assert response.keys() == {"ResponseMetadata"}
    assert int(response["ResponseMetadata"]["HTTPHeaders"]["content-length"]) > 0


def test_a_hanging_call_times_out(fake: FakeAws) -> None:
    """The server sends nothing; the read timeout of the client ends the wait."""
    session = fake.session()
    fake.control.faults(hang=1.0, hang_seconds=20)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        call(fake, "kms", session, config=Config(read_timeout=0.3))


def test_accidents_happen_at_their_rate_for_the_selected_operations() -> None:
    """Rates are shares of all requests, and the same seed gives the same sequence."""
    injectors = [FaultInjector(Faults(seed=5, throttle=0.2, reset=0.1, only=("kms:ListKeys",))) for _ in range(2)]
    seen = [injectors[0].accident("kms:ListKeys") for _ in range(10_000)]
    assert seen == [injectors[1].accident("kms:ListKeys") for _ in range(10_000)]
    assert abs(seen.count("throttle") / 10_000 - 0.2) < 0.02
    assert abs(seen.count("reset") / 10_000 - 0.1) < 0.02
    assert {injectors[0].accident("kms:ListAliases") for _ in range(100)} == {None}


@pytest.mark.parametrize("service", [name for name in METHODS if name not in {"organizations", "account"}])
def test_a_session_expires_after_its_calls(service: str, fake: FakeAws) -> None:
    """An expired session stays expired; a new session works."""
    account = fake.world.accounts[1].id
    fake.control.faults(expire_after_calls=2)
    session = fake.session(account)
    client = session.client(service)
    list_resources = getattr(client, METHODS[service])
    list_resources()
    list_resources()
    for _ in range(2):
        assert error_of(fake, service, session)[2] is Cause.EXPIRED
    call(fake, service, fake.session(account))


def test_a_session_expires_by_the_clock(fake: FakeAws) -> None:
    """Tokens contain their expiry, which can be earlier than requested."""
    fake.control.faults(session_seconds=0)
    session = fake.session(fake.world.accounts[1].id)
    assert error_of(fake, "kms", session) == ("ExpiredTokenException", 400, Cause.EXPIRED)


def test_a_role_can_be_deleted_during_a_crawl(fake: FakeAws) -> None:
    """After its deletion, calls of the role are denied, and it cannot be assumed again."""
    account = fake.world.accounts[1].id
    fake.control.faults(role_gone_after={account: 3})
    session = fake.session(account)
    for _ in range(3):
        call(fake, "kms", session)
    assert error_of(fake, "kms", session)[2] is Cause.ROLE_PERMISSION
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        fake.session(account)
    call(fake, "kms", fake.session(fake.world.accounts[2].id))


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("key policy", Cause.KEY_POLICY),
        ("role", Cause.ROLE_PERMISSION),
        ("scp", Cause.SERVICE_CONTROL_POLICY),
        ("bare", Cause.DENIED),
    ],
)
def test_a_denial_names_the_responsible_policy(reason: Any, cause: Cause, fake: FakeAws) -> None:
    """Denials apply to one operation, account and region, with the explanation of AWS."""
    account = fake.world.accounts[1].id
    denial = Denial(operation="kms:ListKeys", account=account, region="us-east-1", reason=reason)
    fake.control.faults(denials=(denial,))
    session = fake.session(account)
    assert error_of(fake, "kms", session)[2] is cause
    session.client("kms").list_aliases()
    session.client("kms", "eu-west-1").list_keys()
    call(fake, "kms", fake.session(fake.world.accounts[2].id))


def test_a_denial_can_apply_to_one_key(fake: FakeAws) -> None:
    """Other keys remain readable."""
    account_region = fake.world.account_region(fake.world.accounts[1].id, "us-east-1")
    denied, other = account_region.edge_case_key("rsa"), account_region.edge_case_key("hmac")
    fake.control.faults(denials=(Denial(operation="kms:*", key=denied, reason="key policy"),))
    client = fake.session(account_region.account_id).client("kms")
    client.describe_key(KeyId=other)
    with pytest.raises(client.exceptions.ClientError, match="no resource-based policy allows the kms:DescribeKey"):
        client.describe_key(KeyId=denied)


def test_an_scp_denies_all_regional_services(fake: FakeAws) -> None:
    """Every regional service is denied, with the message that identifies an SCP."""
    account, region = fake.world.accounts[2], fake.world.parameters.regions[-1]
    assert account.denied == {region}
    session = fake.session(account.id)
    for service in ("kms", "secretsmanager", "rds", "elasticache"):
        with pytest.raises(botocore.exceptions.ClientError, match="explicit deny in a service control policy"):
            call(fake, service, session, region=region)
    call(fake, "kms", session)


def test_responses_have_the_configured_latency(fake: FakeAws) -> None:
    """A response takes at least the configured time."""
    session = fake.session()
    client = session.client("kms")
    fake.control.faults(latency_ms=80, jitter_ms=5)
    started = time.monotonic()
    client.list_keys()
    assert time.monotonic() - started >= 0.08


@pytest.mark.parametrize("service", METHODS)
def test_signatures_are_verified_if_configured(service: str, fake: FakeAws) -> None:
    """Signatures of boto3 are accepted for every service; signatures with another secret are rejected."""
    fake.control.faults(verify_signatures=True)
    call(fake, service)
    other_secret = boto3.Session(fake.world.access_key, "not the secret", region_name="us-east-1")
    path_style = Config(s3={"addressing_style": "path"})
    client: Any = other_secret.client(service, endpoint_url=fake.url, config=path_style)  # type: ignore[call-overload]  # the service name is a variable
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(client, METHODS[service])()
    response: Any = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    assert classify(response["Error"]["Code"], response["Error"]["Message"], status) is Cause.CREDENTIALS


def test_role_sessions_sign_with_their_own_secret(fake: FakeAws) -> None:
    """The secret of a session matches its token, also for requests with paths and queries."""
    fake.control.faults(verify_signatures=True)
    session = fake.session(fake.world.accounts[1].id)
    bucket = fake.world.buckets(fake.world.accounts[1].id).entries[0]
    session.client("s3", bucket.region).get_bucket_encryption(Bucket=bucket.name)
    session.client("s3").list_buckets(Prefix="fake-1 &/+", MaxBuckets=7)
    session.client("rds").describe_db_snapshots(MaxRecords=20)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aws_access_key_id": "AKIANOBODY"}, "UnrecognizedClientException"),
        ({"aws_session_token": "bm9uc2Vuc2U="}, "UnrecognizedClientException"),
        ({"region_name": "us-moon-1"}, "InvalidSignatureException"),
        ({"region_name": "af-south-1"}, "UnrecognizedClientException"),
    ],
)
def test_unknown_callers_and_regions_are_rejected(change: dict[str, str], code: str, fake: FakeAws) -> None:
    """Unknown access keys, forged tokens, unknown regions, and opt-in regions that the account did not enable."""
    assert "af-south-1" not in fake.world.management.opt_ins
    defaults = {
        "aws_access_key_id": fake.world.access_key,
        "aws_secret_access_key": fake.world.secret_key,
        "region_name": "us-east-1",
    }
    values: dict[str, Any] = {**defaults, **change}
    client: Any = boto3.Session(**values).client("kms", endpoint_url=fake.url)
    with pytest.raises(client.exceptions.ClientError, match=code):
        client.list_keys()


def test_unknown_fault_names_are_rejected(fake: FakeAws) -> None:
    """A typo in a test raises an error instead of injecting no faults."""
    with pytest.raises(ValueError, match="throtle"):
        Faults.from_json({"throtle": 1.0})
    assert Faults.from_json(Faults(throttle=0.5, denials=(Denial(key="k"),)).to_json()).denials == (Denial(key="k"),)
    assert fake.control.counters()["requests"] == 0
