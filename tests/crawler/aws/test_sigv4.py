"""Signatures equal botocore's for arbitrary requests."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.aws.codecs import canonical_query
from crawler.aws.sigv4 import Signer
from crawler.aws.transport_boto3 import Credentials
from tests.hypothesis_profiles import examples

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
STAMP = NOW.strftime("%Y%m%dT%H%M%SZ")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
NAMES = st.sampled_from(["x-amz-target", "content-type", "x-amz-expected-bucket-owner", "x-amz-odd"])


@settings(max_examples=examples(fast=60, deep=1000))
@given(
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    segments=st.lists(TEXT.filter(lambda text: text not in {".", ".."} and "/" not in text), max_size=3),
    query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    headers=st.dictionaries(NAMES, PRINTABLE, max_size=4),
    body=st.binary(max_size=200),
    access_key=st.from_regex(r"A[A-Z0-9]{19}", fullmatch=True),
    secret=SECRETS,
    token=st.none() | SECRETS,
    region=st.sampled_from(["us-east-1", "eusc-de-east-1", "cn-north-1", "us-gov-west-1"]),
    service=st.sampled_from(["kms", "rds", "s3", "organizations"]),
)
def test_the_authorization_header_is_the_one_that_botocore_makes(  # noqa: PLR0917 - hypothesis passes them by name
    method: str,
    segments: list[str],
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
    access_key: str,
    secret: str,
    token: str | None,
    region: str,
    service: str,
) -> None:
    """Arbitrary methods, paths, queries, headers, bodies, credentials, regions and services yield the same header."""
    path = "/" + "/".join(quote(segment, safe="-_.~") for segment in segments if segment)
    ours = {**headers, "host": "service.example.com"}
    if service == "s3":
        ours["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    # S3 signs the path as sent; the other services encode it once more.
    canonical_path = path if service == "s3" else quote(path, safe="/-_.~")
    signer = Signer(method, canonical_path, canonical_query(query), ours, region, service)
    sent = signer.sign(Credentials(access_key, secret, token), STAMP, body)
    signature = by_botocore(method, path, query, headers, body, access_key, secret, token, region, service)
    expected = {f"{name}: {value}" for name, value in ours.items()} | {f"x-amz-date: {STAMP}"}
    expected |= {f"x-amz-security-token: {token}"} if token else set()
    assert set(sent) == {*expected, f"Authorization: {signature}"}


def by_botocore(  # noqa: PLR0917 - as above
    method: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
    access_key: str,
    secret: str,
    token: str | None,
    region: str,
    service: str,
) -> str:
    """Return the Authorization header of botocore's signer for the same request."""
    url = f"https://service.example.com{path}"
    encoded = canonical_query(query)
    request = botocore.awsrequest.AWSRequest(
        method=method, url=f"{url}?{encoded}" if encoded else url, headers=dict(headers), data=body
    )
    keys = botocore.credentials.Credentials(access_key, secret, token)
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer(keys, service, region).add_auth(request)
    assert urlsplit(request.url).path == path
    header: str = request.headers["Authorization"]
    return header
