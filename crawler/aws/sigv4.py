"""Signature Version 4, as far as this crawler needs it: a signed Authorization header, with derived keys kept.

Source: AWS General Reference, "Create a signed AWS API request". A derived key is good for a day, a region and a service,
so that signing a request costs two hashes and one HMAC instead of six.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from urllib.parse import quote

from crawler.aws.transport import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()


def authorization(
    *,
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    payload_hash: str,
    credentials: Credentials,
    region: str,
    service: str,
    timestamp: str,
) -> str:
    """The value of the Authorization header.

    ``path`` is the canonical path (already encoded as the service wants it), ``query`` the canonical query
    (:func:`canonical_query`), ``headers`` all headers to be signed, lower-case names, ``timestamp`` the value of X-Amz-Date
    (``20261122T030000Z``).
    """
    names = sorted(headers)
    canonical_headers = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    signed = ";".join(names)
    request = f"{method}\n{path}\n{query}\n{canonical_headers}\n{signed}\n{payload_hash}"
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _derived_key(credentials.secret_key, timestamp[:8], region, service)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"


def canonical_query(parameters: dict[str, str]) -> str:
    """Query parameters encoded and sorted as the signature wants them; sent in the same form."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@lru_cache(maxsize=65_536)
def _derived_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
