"""Credentials: AssumeRole requests, session renewal, and missing credentials."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials

from crawler.aws.credentials import (
    SESSION_POLICY_LIMIT,
    CredentialsError,
    OwnCredentials,
    RoleCredentials,
    Roles,
    session_policy,
)
from crawler.aws.errors import AwsError
from crawler.aws.transport_boto3 import Credentials
from crawler.iam_policies import member_actions, operations
from crawler.services.kms import DESCRIBE_KEY
from models.settings import AwsSettings, RoleSettings
from models.tables.runs import Cause
from tests.crawler.scripted_aws import REGION, Answer, RecordedCall, Result, ScriptedAws, aws_error, client_for, in_turn

HUB = "999988887777"
MEMBER = "111122223333"
ROLE = f"arn:aws:iam::{MEMBER}:role/KmsInventoryReadOnly"
READER = f"arn:aws:iam::{HUB}:role/organization-reader"
AS_ROLE = f"arn:aws:sts::{HUB}:assumed-role/crawler/i-0123456789abcdef0"
AS_USER = f"arn:aws:iam::{HUB}:user/crawler"
GOV_ROLE = f"arn:aws-us-gov:sts::{HUB}:assumed-role/crawler/session"
EXPIRED = aws_error("ExpiredToken", "The security token included in the request is expired")


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the crawler's own credentials in the environment and hide all other sources."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


class Sts:
    """A scripted STS that returns numbered sessions with a given lifetime."""

    def __init__(self, arn: str = AS_ROLE, lifetime: dt.timedelta = dt.timedelta(hours=1), **answers: Answer) -> None:
        self.lifetime = lifetime
        self.sessions = 0
        self.aws = ScriptedAws(
            {
                "sts:GetCallerIdentity": {"Arn": arn, "Account": HUB, "UserId": "x"},
                "sts:AssumeRole": self.assumed,
                **{name.replace("_", ":"): answer for name, answer in answers.items()},
            }
        )

    def assumed(self, _call: RecordedCall) -> dict[str, Any]:
        """Return the next session."""
        self.sessions += 1
        return {
            "Credentials": {
                "AccessKeyId": f"ASIA{self.sessions}",
                "SecretAccessKey": "secret",
                "SessionToken": "token",
                "Expiration": dt.datetime.now(dt.UTC) + self.lifetime,
            }
        }

    def roles(self, actions: tuple[str, ...] = ("kms:ListKeys",), **role: Any) -> Roles:
        """Return the configured roles; requires a running event loop."""
        return Roles(client_for(self.aws), AwsSettings(), RoleSettings.model_validate(role), actions)


def requested(sts: Sts, *, reader: bool = False, **role: Any) -> RecordedCall:
    """Return the AssumeRole request of one session."""

    async def assume() -> None:
        roles = sts.roles(**role)
        provider = await roles.reader(READER) if reader else await roles.member(MEMBER)
        await provider.credentials()

    asyncio.run(assume())
    (call,) = sts.aws.of("sts:AssumeRole")
    return call


def test_the_request_has_all_configured_parameters() -> None:
    """External id, source identity, session tags, duration and session name are sent, signed with the own credentials."""
    call = requested(
        Sts(AS_USER),
        external_id="northwind-7",
        source_identity="nightly",
        session_tags={"team": "keys", "app": "ledger"},
        session_name="nightly-run",
        session_duration=7200,
    )
    assert call["RoleArn"] == ROLE
    assert (call["ExternalId"], call["SourceIdentity"], call["RoleSessionName"]) == (
        "northwind-7",
        "nightly",
        "nightly-run",
    )
    assert call["Tags"] == [{"Key": "app", "Value": "ledger"}, {"Key": "team", "Value": "keys"}]
    assert call["DurationSeconds"] == 7200
    assert (call.region, call.credentials.access_key) == ("us-east-1", "AKIAOWN")


def test_unset_parameters_are_not_sent() -> None:
    """STS rejects empty parameters: by default only role, name, duration and session policy are sent."""
    assert set(requested(Sts()).params) == {"RoleArn", "RoleSessionName", "DurationSeconds", "Policy"}


@pytest.mark.parametrize(("duration", "expected"), [(7200, 3600), (900, 900)])
def test_a_chained_role_lasts_an_hour_at_most(duration: int, expected: int) -> None:
    """With the credentials of a role, STS rejects more than an hour; shorter durations are unchanged."""
    assert requested(Sts(AS_ROLE), session_duration=duration)["DurationSeconds"] == expected


def test_the_session_policy_allows_declared_actions_only() -> None:
    """The session policy allows exactly the declared member actions, is within the STS limit, and can be disabled."""
    actions = tuple(member_actions())
    policy = requested(Sts(), actions=actions)["Policy"]
    (statement,) = json.loads(policy)["Statement"]
    declared = {operation.iam_action for operation in operations() if operation.caller == "member"}
    assert (statement["Effect"], set(statement["Action"]), statement["Resource"]) == ("Allow", declared, "*")
    assert len(policy) <= SESSION_POLICY_LIMIT
    assert "Policy" not in requested(Sts(), session_policy=False).params


def test_a_session_policy_that_is_too_long_is_an_error() -> None:
    """A session policy of more than 2,048 characters is an error that names the setting to change."""
    with pytest.raises(CredentialsError, match=r"role\.session_policy") as error_info:
        session_policy(f"service{n}:DescribeSomethingOfAVeryLongName" for n in range(100))
    assert error_info.value.exit_code == 2


@pytest.mark.parametrize("name", ["KmsInventoryReadOnly", "organization-reader"])
def test_the_reader_role_has_no_session_policy(name: str) -> None:
    """The reader role calls other operations than the member role, even if both have the same name."""
    assert "Policy" not in requested(Sts(), reader=True, name=name).params


def test_member_roles_have_the_callers_partition() -> None:
    """The partition comes from the caller's ARN; the own account needs no role."""

    async def both() -> tuple[Any, Any, Roles]:
        roles = Sts(GOV_ROLE).roles()
        return await roles.member(MEMBER), await roles.member(HUB), roles

    member, own, roles = asyncio.run(both())
    assert isinstance(member, RoleCredentials)
    assert member.arn == f"arn:aws-us-gov:iam::{MEMBER}:role/KmsInventoryReadOnly"
    assert own is roles.own
    assert own.account_id == HUB


def test_a_session_is_used_until_five_minutes_before_its_end() -> None:
    """A role is assumed once for many calls, and again shortly before the session expires."""

    async def request(sts: Sts) -> None:
        provider = await sts.roles().member(MEMBER)
        await asyncio.gather(*(provider.credentials() for _ in range(20)))
        await provider.credentials()

    long, short = Sts(), Sts(lifetime=dt.timedelta(minutes=4))
    asyncio.run(request(long))
    asyncio.run(request(short))
    assert long.sessions == 1
    assert short.sessions == 21


@pytest.mark.parametrize("lifetime", [dt.timedelta(hours=-23), dt.timedelta(hours=25)])
def test_a_wrong_clock_does_not_change_the_life_of_a_session(lifetime: dt.timedelta) -> None:
    """Where the clock of this machine is a day ahead or behind, a session lives as long as was requested: one for all calls."""
    sts = Sts(lifetime=lifetime)

    async def scenario() -> dt.datetime:
        provider = await sts.roles().member(MEMBER)
        assert isinstance(provider, RoleCredentials)
        for _ in range(3):
            await provider.credentials()
        return provider._expires_at

    expires_at = asyncio.run(scenario())
    assert sts.sessions == 1
    assert dt.timedelta(minutes=50) < expires_at - dt.datetime.now(dt.UTC) <= dt.timedelta(hours=1)


def test_an_expired_session_is_renewed_once_for_concurrent_calls() -> None:
    """Fifty calls in flight when the session expires cause one AssumeRole call, and all succeed."""

    def described(call: RecordedCall) -> Result:
        return EXPIRED if call.credentials.access_key == "ASIA1" else {"KeyMetadata": {"KeyId": "x"}}

    sts = Sts(kms_DescribeKey=described)

    async def many() -> list[dict[str, Any]]:
        roles = sts.roles()
        provider = await roles.member(MEMBER)
        return await asyncio.gather(*(roles._client.call(provider, DESCRIBE_KEY, REGION, {}) for _ in range(50)))

    assert asyncio.run(many()) == [{"KeyMetadata": {"KeyId": "x"}}] * 50
    assert sts.sessions == 2


@pytest.mark.parametrize(("minutes", "threads"), [(None, 0), (60, 0), (5, 1)])
def test_own_credentials_use_a_thread_only_to_refresh(
    monkeypatch: pytest.MonkeyPatch, minutes: int | None, threads: int
) -> None:
    """Every call in the crawler's own account reads its credentials; only an imminent refresh may block."""
    expiry = None if minutes is None else dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    renewed = {
        "access_key": "AKIANEW",
        "secret_key": "new",
        "token": "new",
        "expiry_time": (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat(),
    }
    started: list[Any] = []

    async def to_thread(function: Any) -> Any:
        started.append(function)
        return function()

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    own = OwnCredentials(AwsSettings())
    if expiry is not None:
        own._credentials = RefreshableCredentials("AKIAOLD", "old", "old", expiry, lambda: renewed, "test")
    keys = [asyncio.run(own.credentials()).access_key for _ in range(3)]
    assert keys == [{None: "AKIAOWN", 60: "AKIAOLD", 5: "AKIANEW"}[minutes]] * 3
    assert len(started) == threads


def test_concurrent_identity_lookups_make_one_call() -> None:
    """A hundred concurrent lookups make one GetCallerIdentity call."""
    sts = Sts()

    async def many() -> set[tuple[str, str]]:
        roles = sts.roles()
        return {
            (identity.arn, identity.account_id)
            for identity in await asyncio.gather(*(roles.identity() for _ in range(100)))
        }

    assert asyncio.run(many()) == {(AS_ROLE, HUB)}
    assert len(sts.aws.of("sts:GetCallerIdentity")) == 1


def test_a_failed_identity_lookup_is_not_cached() -> None:
    """After a failed lookup the next one calls STS again."""
    sts = Sts(sts_GetCallerIdentity=in_turn(aws_error("Throttling"), {"Arn": AS_ROLE, "Account": HUB}))

    async def twice() -> tuple[Any, Any]:
        roles = sts.roles()
        return await asyncio.gather(roles.identity(), roles.identity(), return_exceptions=True)

    failed, identity = asyncio.run(twice())
    assert isinstance(failed, AwsError)
    assert identity.account_id == HUB


def assuming(answer: AwsError) -> AwsError:
    """Return the error of a failed AssumeRole call."""

    async def assume() -> None:
        await (await Sts(sts_AssumeRole=answer).roles().member(MEMBER)).credentials()

    with pytest.raises(AwsError) as failure:
        asyncio.run(assume())
    return failure.value


def test_assume_role_errors_have_a_cause() -> None:
    """A denial without details means a missing or untrusting role; other errors keep their cause."""
    denial = aws_error(
        "AccessDenied", f"User: {AS_ROLE} is not authorized to perform: sts:AssumeRole on resource: {ROLE}", 403
    )
    assert assuming(denial).cause is Cause.ROLE_MISSING_OR_UNTRUSTED
    assert assuming(aws_error("Throttling", "Rate exceeded")).cause is Cause.THROTTLED
    assert assuming(aws_error("SomethingNew", "", 503)).cause is Cause.SERVICE_ERROR
    assert assuming(EXPIRED).cause is Cause.EXPIRED


def test_a_failure_of_the_own_credentials_keeps_its_cause() -> None:
    """If the own credentials cannot be read, the role is not reported as the cause."""
    own = AwsError(Cause.CREDENTIALS, "SSOTokenLoadError", "Error loading SSO Token: Token for session does not exist")
    failure = assuming(own)
    assert (failure.cause, failure.code) == (Cause.CREDENTIALS, "SSOTokenLoadError")


def test_incomplete_sts_responses_are_errors() -> None:
    """An empty response of STS is an error of one account, not of the program."""

    async def request(sts: Sts) -> None:
        await (await sts.roles().member(MEMBER)).credentials()

    for sts in (Sts(sts_AssumeRole={}), Sts(sts_GetCallerIdentity={})):
        with pytest.raises(AwsError) as failure:
            asyncio.run(request(sts))
        assert failure.value.cause is Cause.INVALID_RESPONSE


def test_credentials_are_never_shown() -> None:
    """Neither repr nor str of credentials contains any part of them."""
    credentials = Credentials("AKIAOWN", "own-secret", "own-token")
    for text in (
        repr(credentials),
        str(credentials),
        f"{credentials}",
        repr([credentials]),
        repr(asyncio.run(OwnCredentials(AwsSettings()).credentials())),
    ):
        assert not {"AKIAOWN", "own-secret", "own-token"} & set(text.replace("'", " ").replace("(", " ").split())
        assert "own" not in text.lower()


def test_missing_credentials_are_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the places where credentials are looked up."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"no AWS credentials were found: set aws\.profile") as error_info:
        OwnCredentials(AwsSettings())
    assert error_info.value.exit_code == 2
    assert "\n" not in error_info.value.message


def test_a_profile_that_does_not_exist_is_named() -> None:
    """The error of an unknown profile names it."""
    with pytest.raises(CredentialsError, match=r"nightly.*correct aws\.profile"):
        OwnCredentials(AwsSettings(profile="nightly"))


def test_a_profile_whose_role_has_no_source_is_explained(tmp_path: Path) -> None:
    """An incomplete profile is reported with botocore's message."""
    (tmp_path / "config").write_text("[profile broken]\nrole_arn = arn:aws:iam::111122223333:role/x\n")
    with pytest.raises(CredentialsError, match="cannot be read"):
        OwnCredentials(AwsSettings(profile="broken"))
