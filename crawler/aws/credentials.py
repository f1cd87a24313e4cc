"""Credentials: the crawler's own, and one assumed role per account (sts:AssumeRole, sts:GetCallerIdentity)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.exceptions

from crawler.aws.client import Door
from crawler.aws.errors import AwsError, classify_assume_role
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from models.errors import UserError
from models.settings import AwsSettings, RoleSettings
from models.tables.runs import Cause

CALLER_IDENTITY = Operation("sts", "GetCallerIdentity", caller="hub")
ASSUME_ROLE = Operation("sts", "AssumeRole", caller="hub")
OPERATIONS = (CALLER_IDENTITY, ASSUME_ROLE)

RENEW_BEFORE = dt.timedelta(minutes=5)
REFUSAL_STANDS = dt.timedelta(minutes=1)
CHAINED_LIMIT = 3600
"""Seconds. A role assumed with the credentials of a role lasts an hour at most (sts:AssumeRole, DurationSeconds)."""
SESSION_POLICY_LIMIT = 2048


class CredentialsError(UserError):
    """The crawler has no usable credentials of its own."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the crawler is (sts:GetCallerIdentity)."""

    arn: str
    account_id: str

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, ``aws-us-gov``, ``aws-eusc`` ..."""
        return self.arn.split(":")[1]

    @property
    def is_role(self) -> bool:
        """Whether further roles are chained ones."""
        return ":assumed-role/" in self.arn


class OwnAccess:
    """The crawler's own credentials, as boto3 finds them: profile, SSO, web identity, container, instance."""

    def __init__(self, settings: AwsSettings) -> None:
        try:
            session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
            found = session.get_credentials()
        except botocore.exceptions.ProfileNotFound as error:
            raise CredentialsError(
                f"{error}: correct aws.profile, or add the profile to the AWS config file"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise CredentialsError(f"AWS credentials cannot be read: {error}") from error
        if found is None:
            raise CredentialsError(
                "no AWS credentials were found: set aws.profile, the AWS_* environment variables, or run where a role is attached"
            )
        self._found = found
        self.account_id = ""

    async def credentials(self) -> Credentials:
        """Frozen afresh each time; boto3 renews them as needed."""
        try:
            frozen = await asyncio.to_thread(self._found.get_frozen_credentials)
        except botocore.exceptions.BotoCoreError as error:
            raise AwsError(Cause.CREDENTIALS, type(error).__name__, str(error)) from error
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    async def renew(self, expired: Credentials) -> Credentials:
        """Whatever boto3 has now; if that is what has expired, the next error says so."""
        del expired
        return await self.credentials()


class RoleAccess:
    """A role in one account; assumed when first needed, renewed before it expires."""

    def __init__(self, roles: Roles, account_id: str, arn: str, policy: str | None) -> None:
        self.account_id = account_id
        self.arn = arn
        self.policy = policy
        """What its sessions are restricted to."""
        self._roles = roles
        self._held: Credentials | None = None
        self._until = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._refusal: AwsError | None = None
        self._refused_until = self._until
        self._lock = asyncio.Lock()

    async def credentials(self) -> Credentials:
        """Good for five minutes at least."""
        async with self._lock:
            if self._held is None or dt.datetime.now(dt.UTC) > self._until - RENEW_BEFORE:
                self._held = await self._assume()
            return self._held

    async def renew(self, expired: Credentials) -> Credentials:
        """Assume the role again, once, however many calls saw the old session expire."""
        async with self._lock:
            if self._held is None or self._held == expired:
                self._held = await self._assume()
            return self._held

    async def _assume(self) -> Credentials:
        """A new session; a refusal stands for a while, so that a lost role is not asked for by every call that is left."""
        if self._refusal is not None and dt.datetime.now(dt.UTC) < self._refused_until:
            raise self._refusal
        try:
            credentials, self._until = await self._roles.assume(self)
        except AwsError as error:
            self._refusal, self._refused_until = error, dt.datetime.now(dt.UTC) + REFUSAL_STANDS
            raise
        self._refusal = None
        return credentials


class Roles:
    """Assumes roles as configured, restricted to the declared actions."""

    def __init__(self, door: Door, aws: AwsSettings, role: RoleSettings, actions: Iterable[str]) -> None:
        self._door = door
        self._aws = aws
        self._role = role
        self._own = OwnAccess(aws)
        self._identity: Identity | None = None
        self._asking = asyncio.Lock()
        self._session_policy = session_policy(actions) if role.session_policy else None

    @property
    def own(self) -> OwnAccess:
        """The crawler's own credentials."""
        return self._own

    async def identity(self) -> Identity:
        """Who we are; the first call of a crawl, and the one that finds credentials or endpoints to be wrong."""
        # Once, however many accounts want to be opened at the same time.
        async with self._asking:
            if self._identity is None:
                answer = await self._door.call(self._own, CALLER_IDENTITY, self._aws.region, {})
                with _understood(CALLER_IDENTITY):
                    self._identity = Identity(answer["Arn"], answer["Account"])
                self._own.account_id = self._identity.account_id
            return self._identity

    async def reader(self, arn: str) -> RoleAccess:
        """A role that may read the organization."""
        await self.identity()
        return RoleAccess(self, arn.split(":")[4], arn, None)

    async def member(self, account_id: str) -> OwnAccess | RoleAccess:
        """The right to read an account; our own account needs no role."""
        identity = await self.identity()
        if account_id == identity.account_id:
            return self._own
        arn = f"arn:{identity.partition}:iam::{account_id}:role/{self._role.name}"
        return RoleAccess(self, account_id, arn, self._session_policy)

    async def assume(self, role: RoleAccess) -> tuple[Credentials, dt.datetime]:
        """One session of a role, and when it ends."""
        try:
            answer = await self._door.call(self._own, ASSUME_ROLE, self._aws.region, self._request(role))
        except AwsError as error:
            if error.retryable or error.cause is Cause.CREDENTIALS:
                raise
            cause = classify_assume_role(error.code, error.message, None)
            raise AwsError(cause, error.code, error.message, error.retries) from error
        with _understood(ASSUME_ROLE):
            held = answer["Credentials"]
            credentials = Credentials(held["AccessKeyId"], held["SecretAccessKey"], held["SessionToken"])
            return credentials, held["Expiration"]

    def _request(self, access: RoleAccess) -> Mapping[str, Any]:
        role = self._role
        chained = self._identity is not None and self._identity.is_role
        request: dict[str, Any] = {
            "RoleArn": access.arn,
            "RoleSessionName": role.session_name,
            "DurationSeconds": min(role.session_duration, CHAINED_LIMIT) if chained else role.session_duration,
        }
        if role.external_id is not None:
            request["ExternalId"] = role.external_id.get_secret_value()
        if role.source_identity:
            request["SourceIdentity"] = role.source_identity
        if role.session_tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(role.session_tags.items())]
        if access.policy:
            request["Policy"] = access.policy
        return request


@contextmanager
def _understood(operation: Operation) -> Iterator[None]:
    """An answer without what was asked for is a gap of one account, not the end of the night."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise AwsError(Cause.INVALID_RESPONSE, "MissingMember", f"the answer of {operation} has no {error}") from error


def session_policy(actions: Iterable[str]) -> str:
    """The policy that a role session is restricted to: the declared actions and no other (2,048 characters at most)."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": sorted(set(actions)), "Resource": "*"}],
    }
    text = json.dumps(document, separators=(",", ":"))
    if len(text) > SESSION_POLICY_LIMIT:
        raise CredentialsError(
            f"the session policy would have {len(text)} characters, AWS takes {SESSION_POLICY_LIMIT}: "
            "choose fewer crawl.resource_types, or set role.session_policy to false"
        )
    return text
