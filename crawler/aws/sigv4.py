"""Signature Version 4, limited to signed Authorization headers, with cached signing keys.

Source: AWS General Reference, "Create a signed AWS API request". A signing key is valid for one day, region and service; with
the cache, a signature costs two hashes and one HMAC instead of six.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from functools import lru_cache

from crawler.aws.transport_boto3 import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_DATE, _TOKEN = "x-amz-date", "x-amz-security-token"


class Signer:
    """Signs requests that differ only in time, credentials and body; the rest is prepared once.

    ``path`` is the canonical path, encoded as the service requires; ``query`` the canonical query (of :mod:`crawler.aws.codecs`);
    ``headers`` are the constant signed headers with lower-case names, ``unsigned`` further header lines to send.
    """

    def __init__(  # noqa: PLR0917 - the parts of a request
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        region: str,
        service: str,
        unsigned: Iterable[str] = (),
    ) -> None:
        self._scope = f"/{region}/{service}/aws4_request"
        self._region, self._service = region, service
        self._lines = [*(f"{name}: {value}" for name, value in headers.items()), *unsigned]
        date, token = _DATE, _TOKEN

        def canonical(names: Iterable[str]) -> str:
            return "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(names))

        self._head = f"{method}\n{path}\n{query}\n{canonical(name for name in headers if name < date)}{date}:"
        self._middle = f"\n{canonical(name for name in headers if date < name < token)}"
        self._tail = canonical(name for name in headers if name > token)
        self._names = ";".join(sorted([*headers, date]))
        self._names_with_token = ";".join(sorted([*headers, date, token]))

    def sign(self, credentials: Credentials, timestamp: str, body: bytes) -> list[str]:
        """Return the header lines to send; ``timestamp`` is the value of X-Amz-Date (``20261122T030000Z``)."""
        payload_hash = hashlib.sha256(body).hexdigest() if body else EMPTY_HASH
        token = credentials.token
        if token:
            names = self._names_with_token
            token_line = f"{_TOKEN}:{' '.join(token.split())}\n"
        else:
            names, token_line = self._names, ""
        request = f"{self._head}{timestamp}{self._middle}{token_line}{self._tail}\n{names}\n{payload_hash}"
        date = timestamp[:8]
        scope = f"{date}{self._scope}"
        to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = _derived_key(credentials.secret_key, date, self._region, self._service)
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        access_key = credentials.access_key
        lines = [
            *self._lines,
            f"{_DATE}: {timestamp}",
            f"Authorization: {ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}",
        ]
        if token:
            lines.append(f"{_TOKEN}: {token}")
        return lines


@lru_cache(maxsize=65_536)
def _derived_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
