"""Every fault, as a stock boto3 client sees it."""

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
from benchmarks.fake_aws.faults import Denial, Dice, Faults
from crawler.aws.errors import classify
from models.tables.runs import Cause

QUESTIONS = {
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


def ask(fake: FakeAws, service: str, session: Any = None, **options: Any) -> Any:
    client = (session or fake.session()).client(service, **options)
    return getattr(client, QUESTIONS[service])()


def refusal(fake: FakeAws, service: str, session: Any = None) -> tuple[str, int, Cause]:
    """Code and status of the error, and what the crawler makes of it."""
    return refusal_of(lambda: ask(fake, service, session))


def refusal_of(call: Callable[[], Any]) -> tuple[str, int, Cause]:
    """As `refusal`, of a call at hand."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    told: Any = caught.value.response
    code, status = told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]
    return code, status, classify(code, told["Error"].get("Message", ""), status)


@pytest.mark.parametrize("service", QUESTIONS)
def test_a_throttle_is_told_in_the_services_words(service: str, fake: FakeAws) -> None:
    """Each service has a code of its own, and the crawler knows all of them."""
    fake.control.faults(throttle=1.0)
    code, _, cause = refusal(fake, service)
    assert (code, cause) == (THROTTLES[service], Cause.THROTTLED)


@pytest.mark.parametrize("service", QUESTIONS)
def test_an_internal_error_is_a_500_or_a_page_of_a_proxy(service: str, fake: FakeAws) -> None:
    """In the service's words or as HTML that no parser knows: a client must take both for a passing trouble."""
    client = fake.session().client(service)
    fake.control.faults(error=1.0, seed=3)
    seen = {refusal_of(getattr(client, QUESTIONS[service]))[1:] for _ in range(16)}
    assert seen == {(500, Cause.SERVICE_ERROR), (503, Cause.SERVICE_ERROR)}


@pytest.mark.parametrize(
    ("kind", "exceptions"),
    [
        ("reset", (botocore.exceptions.ConnectionClosedError,)),
        ("cut", (botocore.exceptions.ConnectionClosedError, botocore.exceptions.ResponseStreamingError)),
    ],
)
def test_a_broken_connection_is_seen_as_one(kind: str, exceptions: tuple[type[Exception], ...], fake: FakeAws) -> None:
    """Nothing at all, or half an answer and a reset."""
    fake.control.faults(Faults.from_json({kind: 1.0}))
    with pytest.raises(exceptions):
        ask(fake, "kms", fake.session())
    assert fake.control.counters()["accidents"] == {kind: 1}


def test_a_truncated_answer_is_shorter_than_its_head_says(fake: FakeAws) -> None:
    """The connection ends in an orderly way. boto3 sees broken XML, but takes broken JSON for an answer without members."""
    session = fake.session()
    fake.control.faults(truncate=1.0)
    with pytest.raises(botocore.parsers.ResponseParserError):
        ask(fake, "rds", session)
    answer = ask(fake, "kms", session)
    assert answer.keys() == {"ResponseMetadata"}
    assert int(answer["ResponseMetadata"]["HTTPHeaders"]["content-length"]) > 0


def test_a_hanging_call_times_out(fake: FakeAws) -> None:
    """The server says nothing; the client's own time-out ends the wait."""
    session = fake.session()
    fake.control.faults(hang=1.0, hang_seconds=20)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        ask(fake, "kms", session, config=Config(read_timeout=0.3))


def test_accidents_happen_at_their_rate_and_only_where_wanted() -> None:
    """Rates are shares of all requests, the same sequence for the same seed."""
    dice = [Dice(Faults(seed=5, throttle=0.2, reset=0.1, only=("kms:ListKeys",))) for _ in range(2)]
    seen = [dice[0].accident("kms:ListKeys") for _ in range(10_000)]
    assert seen == [dice[1].accident("kms:ListKeys") for _ in range(10_000)]
    assert abs(seen.count("throttle") / 10_000 - 0.2) < 0.02
    assert abs(seen.count("reset") / 10_000 - 0.1) < 0.02
    assert {dice[0].accident("kms:ListAliases") for _ in range(100)} == {None}


@pytest.mark.parametrize("service", [name for name in QUESTIONS if name not in {"organizations", "account"}])
def test_a_session_expires_after_its_calls(service: str, fake: FakeAws) -> None:
    """In the midst of pages, and for good: a new session is needed."""
    account = fake.world.accounts[1].id
    fake.control.faults(expire_after_calls=2)
    session = fake.session(account)
    client = session.client(service)
    question = getattr(client, QUESTIONS[service])
    question()
    question()
    for _ in range(2):
        assert refusal(fake, service, session)[2] is Cause.EXPIRED
    ask(fake, service, fake.session(account))


def test_a_session_expires_by_the_clock(fake: FakeAws) -> None:
    """Tokens carry their end, which may be sooner than was asked for."""
    fake.control.faults(session_seconds=0)
    session = fake.session(fake.world.accounts[1].id)
    assert refusal(fake, "kms", session) == ("ExpiredTokenException", 400, Cause.EXPIRED)


def test_a_role_may_go_half_way(fake: FakeAws) -> None:
    """First its calls are denied, then the role cannot be assumed again."""
    account = fake.world.accounts[1].id
    fake.control.faults(role_gone_after={account: 3})
    session = fake.session(account)
    for _ in range(3):
        ask(fake, "kms", session)
    assert refusal(fake, "kms", session)[2] is Cause.ROLE_PERMISSION
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        fake.session(account)
    ask(fake, "kms", fake.session(fake.world.accounts[2].id))


@pytest.mark.parametrize(
    ("wording", "cause"),
    [
        ("key policy", Cause.KEY_POLICY),
        ("role", Cause.ROLE_PERMISSION),
        ("scp", Cause.SERVICE_CONTROL_POLICY),
        ("bare", Cause.DENIED),
    ],
)
def test_a_denial_names_who_is_to_blame(wording: Any, cause: Cause, fake: FakeAws) -> None:
    """Denials are for one operation, account and region, in the words by which AWS explains them."""
    account = fake.world.accounts[1].id
    denial = Denial(operation="kms:ListKeys", account=account, region="us-east-1", wording=wording)
    fake.control.faults(denials=(denial,))
    session = fake.session(account)
    assert refusal(fake, "kms", session)[2] is cause
    session.client("kms").list_aliases()
    session.client("kms", "eu-west-1").list_keys()
    ask(fake, "kms", fake.session(fake.world.accounts[2].id))


def test_a_denial_may_be_for_one_key(fake: FakeAws) -> None:
    """The other keys answer."""
    place = fake.world.place(fake.world.accounts[1].id, "us-east-1")
    denied, other = place.odd_key("rsa"), place.odd_key("hmac")
    fake.control.faults(denials=(Denial(operation="kms:*", key=denied, wording="key policy"),))
    client = fake.session(place.account_id).client("kms")
    client.describe_key(KeyId=other)
    with pytest.raises(client.exceptions.ClientError, match="no resource-based policy allows the kms:DescribeKey"):
        client.describe_key(KeyId=denied)


def test_a_region_closed_by_an_scp_refuses_everything(fake: FakeAws) -> None:
    """For every regional service, with the words that tell an SCP from a missing permission."""
    account, region = fake.world.accounts[2], fake.world.parameters.regions[-1]
    assert account.denied == {region}
    session = fake.session(account.id)
    for service in ("kms", "secretsmanager", "rds", "elasticache"):
        with pytest.raises(botocore.exceptions.ClientError, match="explicit deny in a service control policy"):
            ask(fake, service, session, region=region)
    ask(fake, "kms", session)


def test_latency_is_added(fake: FakeAws) -> None:
    """An answer takes at least the time that was set."""
    session = fake.session()
    client = session.client("kms")
    fake.control.faults(latency_ms=80, jitter_ms=5)
    started = time.monotonic()
    client.list_keys()
    assert time.monotonic() - started >= 0.08


@pytest.mark.parametrize("service", QUESTIONS)
def test_signatures_are_verified_when_wanted(service: str, fake: FakeAws) -> None:
    """boto3's own signatures pass for every service; those made with another secret do not."""
    fake.control.faults(verify_signatures=True)
    ask(fake, service)
    stranger = boto3.Session(fake.world.access_key, "not the secret", region_name="us-east-1")
    path_style = Config(s3={"addressing_style": "path"})
    client: Any = stranger.client(service, endpoint_url=fake.url, config=path_style)  # type: ignore[call-overload]  # the service's name is data here
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(client, QUESTIONS[service])()
    told: Any = caught.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    assert classify(told["Error"]["Code"], told["Error"]["Message"], status) is Cause.CREDENTIALS


def test_role_sessions_sign_with_their_own_secret(fake: FakeAws) -> None:
    """A session's secret belongs to its token, for paths and queries too."""
    fake.control.faults(verify_signatures=True)
    session = fake.session(fake.world.accounts[1].id)
    bucket = fake.world.buckets(fake.world.accounts[1].id).listed[0]
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
def test_unknown_callers_and_places_are_refused(change: dict[str, str], code: str, fake: FakeAws) -> None:
    """Unknown keys, forged tokens, regions that do not exist, and opt-in regions that the account did not enable."""
    assert "af-south-1" not in fake.world.management.opt_ins
    known = {
        "aws_access_key_id": fake.world.access_key,
        "aws_secret_access_key": fake.world.secret_key,
        "region_name": "us-east-1",
    }
    values: dict[str, Any] = {**known, **change}
    client: Any = boto3.Session(**values).client("kms", endpoint_url=fake.url)
    with pytest.raises(client.exceptions.ClientError, match=code):
        client.list_keys()


def test_unknown_fault_names_are_refused(fake: FakeAws) -> None:
    """A typing error in a test must not look like an AWS without faults."""
    with pytest.raises(ValueError, match="throtle"):
        Faults.from_json({"throtle": 1.0})
    assert Faults.from_json(Faults(throttle=0.5, denials=(Denial(key="k"),)).to_json()).denials == (Denial(key="k"),)
    assert fake.control.counters()["requests"] == 0
