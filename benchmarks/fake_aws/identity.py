"""Authentication: access keys, self-contained session tokens, and signatures (AWS Signature Version 4)."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b32encode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from benchmarks.fake_aws.aws_protocols import api_error
from benchmarks.fake_aws.world_state import World

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^/,]+)/([^/,]*)/([^/,]*)/([^/,]*)/aws4_request, *"
    r"SignedHeaders=([^,]*), *Signature=(\w*)"
)
MAC_BYTES = 12
"""Bytes."""
MAX_CACHED_SESSIONS = 20_000
"""The number of cached sessions; others are decoded from their token again."""
INVALID_TOKEN = "The security token included in the request is invalid."


@dataclass(slots=True)
class Session:
    """A caller. `expires` is in seconds of the real clock (None: never), `calls` the number of calls so far."""

    account_id: str
    arn: str
    user_id: str
    access_key: str
    secret_key: str
    expires: float | None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Issued:
    """The result of sts:AssumeRole."""

    session: Session
    token: str


class Identities:
    """Issues and decodes session tokens. Tokens are self-contained: any process with the same seed can decode them."""

    def __init__(self, world: World) -> None:
        self._key = f"identities/{world.parameters.seed}".encode()
        management = world.management.id
        user = f"arn:aws:iam::{management}:user/kmsledger"
        self.owner = Session(management, user, "AIDAFAKEFAKEFAKEFAKE", world.access_key, world.secret_key, None)
        self._cached: dict[str, Session] = {}

    def issue(self, account_id: str, role: str, name: str, expires: float) -> Issued:
        """Issue a session of a role."""
        text = f"{account_id}|{role}|{name}|{expires:.3f}".encode()
        token = urlsafe_b64encode(self._mac(text) + text).decode()
        return Issued(self._session(token, text), token)

    def caller(self, service: str, access_key: str, token: str) -> Session:
        """The session of an access key and token. Raises ApiError if there is none."""
        if not token:
            if access_key != self.owner.access_key:
                raise api_error(service, "unknown token", INVALID_TOKEN)
            return self.owner
        session = self._cached.get(token)
        if session is None:
            session = self._cached[token] = self._read(service, token)
            if len(self._cached) > MAX_CACHED_SESSIONS:
                del self._cached[next(iter(self._cached))]
        if session.access_key != access_key:
            raise api_error(service, "unknown token", INVALID_TOKEN)
        return session

    def _read(self, service: str, token: str) -> Session:
        try:
            decoded = urlsafe_b64decode(token.encode())
        except (binascii.Error, UnicodeEncodeError) as error:
            raise api_error(service, "unknown token", INVALID_TOKEN) from error
        if decoded[:MAC_BYTES] != self._mac(decoded[MAC_BYTES:]):
            raise api_error(service, "unknown token", INVALID_TOKEN)
        return self._session(token, decoded[MAC_BYTES:])

    def _session(self, token: str, text: bytes) -> Session:
        account_id, role, name, expires = text.decode().split("|")
        access_key = "ASIA" + b32encode(self._mac(b"access key" + token.encode()))[:16].decode()
        secret_key = b64encode(hashlib.blake2b(token.encode(), key=self._key, digest_size=30).digest()).decode()
        role_id = "AROA" + hashlib.blake2b(f"{account_id}/{role}".encode(), digest_size=8).hexdigest().upper()
        arn = f"arn:aws:sts::{account_id}:assumed-role/{role}/{name}"
        return Session(account_id, arn, f"{role_id}:{name}", access_key, secret_key, float(expires))

    def _mac(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key, digest_size=MAC_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Credential:
    """The parsed Authorization header."""

    access_key: str
    day: str
    region: str
    service: str
    signed: str
    signature: str

    @classmethod
    def read(cls, header: str) -> Credential | None:
        """Parse the header; None if it is not a Signature Version 4."""
        match = AUTHORIZATION.fullmatch(header)
        return cls(*match.groups()) if match else None


def signature(  # noqa: PLR0917 - the parts of a request
    credential: Credential, secret: str, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> str:
    """The expected signature of a request, computed as documented for Signature Version 4."""
    path, _, query = target.partition("?")
    pairs = sorted((quote(name, "-_.~"), quote(value, "-_.~")) for name, value in parse_qsl(query, True))
    payload = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    canonical = "\n".join(
        (
            method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in credential.signed.split(";")),
            "",
            credential.signed,
            payload,
        )
    )
    scope = f"{credential.day}/{credential.region}/{credential.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers.get('x-amz-date', '')}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (credential.day, credential.region, credential.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
