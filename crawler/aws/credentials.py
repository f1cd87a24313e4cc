"""Credentials: the crawler's own, and one assumed role per account (sts:AssumeRole, sts:GetCallerIdentity)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.exceptions
from botocore.credentials import RefreshableCredentials

from crawler.aws.client import AwsClient
from crawler.aws.errors import AwsError, classify_assume_role
from crawler.aws.response_validation import invalid_response, require
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from models.errors import UserError
from models.settings import AwsSettings, RoleSettings
from models.tables.runs import Cause

CALLER_IDENTITY = Operation("sts", "GetCallerIdentity", requires=("Arn", "Account"), caller="hub")
ASSUME_ROLE = Operation("sts", "AssumeRole", requires=("Credentials.Expiration",), caller="hub")
OPERATIONS = (CALLER_IDENTITY, ASSUME_ROLE)

_CALLER_ARN = re.compile(r"arn:[a-z-]+:(sts|iam)::\d{12}:[!-~]+", re.ASCII)

RENEW_BEFORE = dt.timedelta(minutes=5)
FAILURE_TTL = dt.timedelta(minutes=1)
CHAINED_LIMIT = 3600
"""Maximum session duration in seconds with role chaining (sts:AssumeRole, DurationSeconds)."""
SESSION_POLICY_LIMIT = 2048


class CredentialsError(UserError):
    """The crawler has no usable credentials of its own."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of the crawler (sts:GetCallerIdentity)."""

    arn: str
    account_id: str

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, ``aws-us-gov``, ``aws-eusc`` ..."""
        return self.arn.split(":")[1]

    @property
    def is_role(self) -> bool:
        """Whether assuming another role is role chaining."""
        return ":assumed-role/" in self.arn


_SESSION = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)(?:/.*)?")


def iam_arn(arn: str) -> str:
    """Return the ARN of a session's role, without its path, which the session does not show; any other ARN as it is."""
    return _SESSION.sub(r"arn:\1:iam::\2:role/\3", arn)


class OwnCredentials:
    """The crawler's own credentials, as boto3 finds them: profile, SSO, web identity, container, instance."""

    def __init__(self, settings: AwsSettings) -> None:
        try:
            session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
            credentials = session.get_credentials()
        except botocore.exceptions.ProfileNotFound as error:
            raise CredentialsError(
                f"{error}: correct aws.profile, or add the profile to the AWS config file"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise CredentialsError(f"AWS credentials cannot be read: {error}") from error
        if credentials is None:
            raise CredentialsError(
                "no AWS credentials were found: set aws.profile or the AWS_* environment variables, or run with an attached role"
            )
        self._credentials = credentials
        self.account_id = ""

    async def credentials(self) -> Credentials:
        """Return the current credentials; boto3 renews them as needed, which may take a call and therefore needs a thread."""
        credentials = self._credentials
        try:
            if isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed():
                frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
            else:
                frozen = credentials.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise AwsError(Cause.CREDENTIALS, type(error).__name__, str(error)) from error
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    async def renew(self, expired: Credentials) -> Credentials:
        """Return boto3's current credentials; if they are still expired, the next call fails."""
        del expired
        return await self.credentials()


def configured_region(profile: str | None) -> str | None:
    """Return the region of a profile or of the environment, if they name one."""
    try:
        return boto3.Session(profile_name=profile).region_name
    except botocore.exceptions.BotoCoreError:
        return None


class RoleCredentials:
    """The session of a role in one account, assumed on first use and renewed before it expires."""

    def __init__(self, roles: Roles, account_id: str, arn: str, policy: str | None) -> None:
        self.account_id = account_id
        self.arn = arn
        self.policy = policy
        """The session policy, if any."""
        self._roles = roles
        self._session: Credentials | None = None
        self._expires_at = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._error: AwsError | None = None
        self._error_expires_at = self._expires_at
        self._lock = asyncio.Lock()

    async def credentials(self) -> Credentials:
        """Return credentials that are valid for at least five minutes."""
        async with self._lock:
            if self._session is None or dt.datetime.now(dt.UTC) > self._expires_at - RENEW_BEFORE:
                self._session = await self._assume()
            return self._session

    async def renew(self, expired: Credentials) -> Credentials:
        """Assume the role again, once for all calls that saw the session expire."""
        async with self._lock:
            if self._session is None or self._session == expired:
                self._session = await self._assume()
            return self._session

    async def _assume(self) -> Credentials:
        """Start a session; an error is cached briefly, so that not every remaining call tries to assume a lost role."""
        if self._error is not None and dt.datetime.now(dt.UTC) < self._error_expires_at:
            raise self._error
        try:
            credentials, self._expires_at = await self._roles.assume(self)
        except AwsError as error:
            self._error, self._error_expires_at = error, dt.datetime.now(dt.UTC) + FAILURE_TTL
            raise
        self._error = None
        return credentials


class Roles:
    """Assumes the configured roles, restricted to the declared actions."""

    def __init__(self, client: AwsClient, aws: AwsSettings, role: RoleSettings, actions: Iterable[str]) -> None:
        self._client = client
        self._aws = aws
        self._role = role
        self.own = OwnCredentials(aws)
        """The crawler's own credentials."""
        self._identity: Identity | None = None
        self._identity_lock = asyncio.Lock()
        self._session_policy = session_policy(actions) if role.session_policy else None

    async def identity(self) -> Identity:
        """Return the caller identity: the first call of a crawl, which detects wrong credentials or endpoints."""
        # One call, however many accounts start concurrently.
        async with self._identity_lock:
            if self._identity is None:
                response = await self._client.call(self.own, CALLER_IDENTITY, self._aws.region, {})
                require(CALLER_IDENTITY, response)
                identity = Identity(response["Arn"], response["Account"])
                if not _CALLER_ARN.fullmatch(identity.arn) or identity.arn.split(":")[4] != identity.account_id:
                    raise invalid_response(CALLER_IDENTITY, "Arn and Account do not name an identity of one account")
                self._identity = identity
                self.own.account_id = self._identity.account_id
            return self._identity

    async def reader(self, arn: str) -> RoleCredentials:
        """Return the credentials of the role that reads the organization."""
        await self.identity()
        return RoleCredentials(self, arn.split(":")[4], arn, None)

    async def member(self, account_id: str) -> OwnCredentials | RoleCredentials:
        """Return the credentials for an account; the crawler's own account needs no role."""
        identity = await self.identity()
        if account_id == identity.account_id:
            return self.own
        arn = f"arn:{identity.partition}:iam::{account_id}:role/{self._role.name}"
        return RoleCredentials(self, account_id, arn, self._session_policy)

    async def assume(self, role: RoleCredentials) -> tuple[Credentials, dt.datetime]:
        """Start a session and return its credentials and expiry, by the clock of this machine."""
        request = self._request(role)
        try:
            response = await self._client.call(self.own, ASSUME_ROLE, self._aws.region, request)
        except AwsError as error:
            if error.retryable or error.cause is Cause.CREDENTIALS:
                raise
            cause = classify_assume_role(error.code, error.message, None)
            raise AwsError(cause, error.code, error.message, error.retries) from error
        credentials, expires_at = _session(response)
        return credentials, _by_local_clock(expires_at, request["DurationSeconds"])

    def _request(self, provider: RoleCredentials) -> Mapping[str, Any]:
        role = self._role
        chained = self._identity is not None and self._identity.is_role
        request: dict[str, Any] = {
            "RoleArn": provider.arn,
            "RoleSessionName": role.session_name,
            "DurationSeconds": min(role.session_duration, CHAINED_LIMIT) if chained else role.session_duration,
        }
        if role.external_id is not None:
            request["ExternalId"] = role.external_id.get_secret_value()
        if role.source_identity:
            request["SourceIdentity"] = role.source_identity
        if role.session_tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(role.session_tags.items())]
        if provider.policy:
            request["Policy"] = provider.policy
        return request


def _session(response: Mapping[str, Any]) -> tuple[Credentials, dt.datetime]:
    """Return the credentials and expiry of a session; raises :class:`AwsError` if they cannot sign requests."""
    require(ASSUME_ROLE, response)
    session = response["Credentials"]
    texts = session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    if not all(_HEADER_TEXT.fullmatch(text) for text in texts):
        raise invalid_response(ASSUME_ROLE, "its credentials have characters that no request can carry")
    return Credentials(*texts), session["Expiration"]


def _by_local_clock(expires_at: dt.datetime, duration: int) -> dt.datetime:
    """When a session of some seconds expires; by its duration where the clock is wrong, which signatures tolerate."""
    now = dt.datetime.now(dt.UTC)
    latest = now + dt.timedelta(seconds=duration)
    return expires_at if now < expires_at <= latest + RENEW_BEFORE else latest


_HEADER_TEXT = re.compile(r"[!-~]+")


def session_policy(actions: Iterable[str]) -> str:
    """Return the session policy, which allows only the declared actions (at most 2,048 characters)."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": sorted(set(actions)), "Resource": "*"}],
    }
    text = json.dumps(document, separators=(",", ":"))
    if len(text) > SESSION_POLICY_LIMIT:
        raise CredentialsError(
            f"the session policy has {len(text)} characters, more than the limit of {SESSION_POLICY_LIMIT}: "
            "choose fewer crawl.resource_types, or set role.session_policy to false"
        )
    return text
