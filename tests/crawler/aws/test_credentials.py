"""Credentials: what is asked of STS for a role, how sessions are renewed, and what is said when there are none."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

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
    """The environment holds the crawler's own credentials and nothing else does."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


class Sts:
    """STS in a script: hands out numbered sessions that last a given time."""

    def __init__(self, arn: str = AS_ROLE, lasting: dt.timedelta = dt.timedelta(hours=1), **answers: Answer) -> None:
        self.lasting = lasting
        self.sessions = 0
        self.aws = ScriptedAws(
            {
                "sts:GetCallerIdentity": {"Arn": arn, "Account": HUB, "UserId": "x"},
                "sts:AssumeRole": self.assumed,
                **{name.replace("_", ":"): answer for name, answer in answers.items()},
            }
        )

    def assumed(self, _call: RecordedCall) -> dict[str, Any]:
        """The next session."""
        self.sessions += 1
        return {
            "Credentials": {
                "AccessKeyId": f"ASIA{self.sessions}",
                "SecretAccessKey": "secret",
                "SessionToken": "token",
                "Expiration": dt.datetime.now(dt.UTC) + self.lasting,
            }
        }

    def roles(self, actions: tuple[str, ...] = ("kms:ListKeys",), **role: Any) -> Roles:
        """Roles as configured; call it where an event loop runs."""
        return Roles(client_for(self.aws), AwsSettings(), RoleSettings.model_validate(role), actions)


def requested(sts: Sts, *, reader: bool = False, **role: Any) -> RecordedCall:
    """The request that one role session makes."""

    async def assume() -> None:
        roles = sts.roles(**role)
        provider = await roles.reader(READER) if reader else await roles.member(MEMBER)
        await provider.credentials()

    asyncio.run(assume())
    (call,) = sts.aws.of("sts:AssumeRole")
    return call


def test_a_role_is_asked_for_with_all_that_is_configured() -> None:
    """External id, source identity, session tags, duration and session name reach STS; the own credentials sign."""
    call = requested(
        Sts(AS_USER),
        external_id="northwind-7",
        source_identity="nightly",
        session_tags={"team": "keys", "app": "ledger"},
        session_name="night",
        session_duration=7200,
    )
    assert call["RoleArn"] == ROLE
    assert (call["ExternalId"], call["SourceIdentity"], call["RoleSessionName"]) == ("northwind-7", "nightly", "night")
    assert call["Tags"] == [{"Key": "app", "Value": "ledger"}, {"Key": "team", "Value": "keys"}]
    assert call["DurationSeconds"] == 7200
    assert (call.region, call.credentials.access_key) == ("us-east-1", "AKIAOWN")


def test_what_is_not_configured_is_not_sent() -> None:
    """STS refuses empty parameters: by default only role, name, duration and session policy are sent."""
    assert set(requested(Sts()).params) == {"RoleArn", "RoleSessionName", "DurationSeconds", "Policy"}


@pytest.mark.parametrize(("duration", "asked"), [(7200, 3600), (900, 900)])
def test_a_chained_role_lasts_an_hour_at_most(duration: int, asked: int) -> None:
    """With a role's own credentials STS refuses more than an hour; less stays less."""
    assert requested(Sts(AS_ROLE), session_duration=duration)["DurationSeconds"] == asked


def test_the_session_may_do_what_is_declared_and_no_more() -> None:
    """The session policy names exactly the declared member actions, fits STS's limit, and can be switched off."""
    actions = tuple(member_actions())
    policy = requested(Sts(), actions=actions)["Policy"]
    (statement,) = json.loads(policy)["Statement"]
    declared = {operation.iam_action for operation in operations() if operation.caller == "member"}
    assert (statement["Effect"], set(statement["Action"]), statement["Resource"]) == ("Allow", declared, "*")
    assert len(policy) <= SESSION_POLICY_LIMIT
    assert "Policy" not in requested(Sts(), session_policy=False).params


def test_a_session_policy_that_is_too_long_says_what_to_do() -> None:
    """STS takes 2,048 characters: more is refused before the night, with the setting to change."""
    with pytest.raises(CredentialsError, match=r"role\.session_policy") as refusal:
        session_policy(f"service{n}:DescribeSomethingOfAVeryLongName" for n in range(100))
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("name", ["KmsInventoryReadOnly", "organization-reader"])
def test_the_reader_of_the_organization_is_not_held_to_the_members_policy(name: str) -> None:
    """The reading role asks other things than the role in the accounts, even where both have one name."""
    assert "Policy" not in requested(Sts(), reader=True, name=name).params


def test_roles_are_named_in_the_callers_partition_and_the_own_account_needs_none() -> None:
    """The partition comes from the caller's ARN; the account that we are in is read as we are."""

    async def both() -> tuple[Any, Any, Roles]:
        roles = Sts(GOV_ROLE).roles()
        return await roles.member(MEMBER), await roles.member(HUB), roles

    member, own, roles = asyncio.run(both())
    assert isinstance(member, RoleCredentials)
    assert member.arn == f"arn:aws-us-gov:iam::{MEMBER}:role/KmsInventoryReadOnly"
    assert own is roles.own
    assert own.account_id == HUB


def test_a_session_is_used_until_five_minutes_before_its_end() -> None:
    """A role is assumed once for many calls, and anew when little of the session is left."""

    async def ask(sts: Sts) -> None:
        provider = await sts.roles().member(MEMBER)
        await asyncio.gather(*(provider.credentials() for _ in range(20)))
        await provider.credentials()

    long, short = Sts(), Sts(lasting=dt.timedelta(minutes=4))
    asyncio.run(ask(long))
    asyncio.run(ask(short))
    assert long.sessions == 1
    assert short.sessions == 21


def test_an_expired_session_is_renewed_once_however_many_calls_saw_it() -> None:
    """Fifty calls in flight when the session ends: one AssumeRole, and every call gets its answer."""

    def described(call: RecordedCall) -> Result:
        return EXPIRED if call.credentials.access_key == "ASIA1" else {"KeyMetadata": {}}

    sts = Sts(kms_DescribeKey=described)

    async def many() -> list[dict[str, Any]]:
        roles = sts.roles()
        provider = await roles.member(MEMBER)
        return await asyncio.gather(*(roles._client.call(provider, DESCRIBE_KEY, REGION, {}) for _ in range(50)))

    assert asyncio.run(many()) == [{"KeyMetadata": {}}] * 50
    assert sts.sessions == 2


def test_who_we_are_is_asked_once_by_many_at_once() -> None:
    """A hundred accounts that are opened together cost one GetCallerIdentity."""
    sts = Sts()

    async def many() -> set[tuple[str, str]]:
        roles = sts.roles()
        return {
            (found.arn, found.account_id) for found in await asyncio.gather(*(roles.identity() for _ in range(100)))
        }

    assert asyncio.run(many()) == {(AS_ROLE, HUB)}
    assert len(sts.aws.of("sts:GetCallerIdentity")) == 1


def test_who_we_are_is_asked_again_where_the_first_answer_was_an_error() -> None:
    """An error of one is nobody else's answer."""
    sts = Sts(sts_GetCallerIdentity=in_turn(aws_error("Throttling"), {"Arn": AS_ROLE, "Account": HUB}))

    async def twice() -> tuple[Any, Any]:
        roles = sts.roles()
        return await asyncio.gather(roles.identity(), roles.identity(), return_exceptions=True)

    failed, found = asyncio.run(twice())
    assert isinstance(failed, AwsError)
    assert found.account_id == HUB


def assuming(answer: AwsError) -> AwsError:
    """How assuming a role fails."""

    async def assume() -> None:
        await (await Sts(sts_AssumeRole=answer).roles().member(MEMBER)).credentials()

    with pytest.raises(AwsError) as failure:
        asyncio.run(assume())
    return failure.value


def test_a_role_that_cannot_be_assumed_tells_why() -> None:
    """The bare denial of STS reads as a missing or untrusting role; other errors keep their own cause."""
    bare = aws_error(
        "AccessDenied", f"User: {AS_ROLE} is not authorized to perform: sts:AssumeRole on resource: {ROLE}", 403
    )
    assert assuming(bare).cause is Cause.ROLE_MISSING_OR_UNTRUSTED
    assert assuming(aws_error("Throttling", "Rate exceeded")).cause is Cause.THROTTLED
    assert assuming(aws_error("SomethingNew", "", 503)).cause is Cause.SERVICE_ERROR
    assert assuming(EXPIRED).cause is Cause.EXPIRED


def test_own_credentials_that_fail_during_the_night_are_called_that() -> None:
    """When the own credentials can no longer be read, no role is blamed for it."""
    own = AwsError(Cause.CREDENTIALS, "SSOTokenLoadError", "Error loading SSO Token: Token for night does not exist")
    failure = assuming(own)
    assert (failure.cause, failure.code) == (Cause.CREDENTIALS, "SSOTokenLoadError")


def test_answers_without_what_was_asked_for_are_errors_of_aws() -> None:
    """An empty answer of STS ends one account's reading, not the program."""

    async def ask(sts: Sts) -> None:
        await (await sts.roles().member(MEMBER)).credentials()

    for sts in (Sts(sts_AssumeRole={}), Sts(sts_GetCallerIdentity={})):
        with pytest.raises(AwsError) as failure:
            asyncio.run(ask(sts))
        assert failure.value.cause is Cause.INVALID_RESPONSE


def test_credentials_are_never_shown() -> None:
    """Neither repr nor str of credentials holds a part of them: they end up in logs and tracebacks."""
    held = Credentials("AKIAOWN", "own-secret", "own-token")
    for shown in (
        repr(held),
        str(held),
        f"{held}",
        repr([held]),
        repr(asyncio.run(OwnCredentials(AwsSettings()).credentials())),
    ):
        assert not {"AKIAOWN", "own-secret", "own-token"} & set(shown.replace("'", " ").replace("(", " ").split())
        assert "own" not in shown.lower()


def test_no_credentials_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any credentials the user reads where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match=r"no AWS credentials were found: set aws\.profile") as refusal:
        OwnCredentials(AwsSettings())
    assert refusal.value.exit_code == 2
    assert "\n" not in refusal.value.message


def test_a_profile_that_does_not_exist_is_named() -> None:
    """A misspelt profile is a usage error that names it."""
    with pytest.raises(CredentialsError, match=r"nightly.*correct aws\.profile"):
        OwnCredentials(AwsSettings(profile="nightly"))


def test_a_profile_whose_role_has_no_source_is_explained(tmp_path: Path) -> None:
    """A profile that is there but incomplete is reported in botocore's words, without a traceback."""
    (tmp_path / "config").write_text("[profile broken]\nrole_arn = arn:aws:iam::111122223333:role/x\n")
    with pytest.raises(CredentialsError, match="cannot be read"):
        OwnCredentials(AwsSettings(profile="broken"))
