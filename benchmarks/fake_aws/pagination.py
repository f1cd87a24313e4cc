"""Pagination: documented page sizes, opaque tokens bound to their listing, and empty pages."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from benchmarks.fake_aws.aws_protocols import api_error
from benchmarks.fake_aws.seeded_random import Draw

MAC_BYTES = 9
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How an operation pages: request parameters, and the minimum, default and maximum page size."""

    token: str
    limit: str
    min_size: int
    default_size: int
    max_size: int


_KMS = {
    "ListKeys": (100, 1000),
    "ListAliases": (50, 100),
    "ListGrants": (50, 100),
    "ListResourceTags": (50, 50),
    "ListKeyRotations": (100, 1000),
    "DescribeCustomKeyStores": (50, 1000),
}
_ORGANIZATIONS = ("ListAccounts", "ListRoots", "ListOrganizationalUnitsForParent", "ListAccountsForParent")
_RDS = ("Instances", "Clusters", "Snapshots", "ClusterSnapshots", "InstanceAutomatedBackups", "ClusterAutomatedBackups")
RULES: Mapping[str, Rule] = {
    **{
        f"kms:{name}": Rule("Marker", "Limit", 1, default_size, max_size)
        for name, (default_size, max_size) in _KMS.items()
    },
    **{f"organizations:{name}": Rule("NextToken", "MaxResults", 1, 20, 20) for name in _ORGANIZATIONS},
    "organizations:ListTagsForResource": Rule("NextToken", "", 1, 50, 50),
    "account:ListRegions": Rule("NextToken", "MaxResults", 1, 50, 50),
    "iam:GetAccountAuthorizationDetails": Rule("Marker", "MaxItems", 1, 100, 1000),
    "secretsmanager:ListSecrets": Rule("NextToken", "MaxResults", 1, 100, 100),
    **{f"rds:DescribeDB{name}": Rule("Marker", "MaxRecords", 20, 100, 100) for name in _RDS},
    "elasticache:DescribeReplicationGroups": Rule("Marker", "MaxRecords", 20, 100, 100),
    "elasticache:DescribeCacheClusters": Rule("Marker", "MaxRecords", 20, 100, 100),
    "elasticache:DescribeSnapshots": Rule("Marker", "MaxRecords", 20, 50, 50),
    "elasticache:DescribeServerlessCaches": Rule("NextToken", "MaxResults", 1, 50, 100),
    "elasticache:DescribeServerlessCacheSnapshots": Rule("NextToken", "MaxResults", 1, 50, 50),
    "s3:ListBuckets": Rule("continuation-token", "max-buckets", 1, 10_000, 10_000),
}
"""ListAliases: the documented maximum is 100, the maximum in the service model 1,000."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing: at most `size` entries from `start`, and the token of the next page, if any."""

    start: int
    size: int
    token: str | None


class Pager:
    """Splits listings into pages. Rejects tokens of another listing, account or region."""

    def __init__(self, seed: int, empty: float) -> None:
        self._key = f"pages/{seed}".encode()
        self._seed = seed
        self._empty = empty

    def page(self, operation: str, subject: str, total: int, params: Mapping[str, object]) -> Page:
        """The requested page. `subject` identifies the listing: account, region and further parameters."""
        rule = RULES[operation]
        service = operation.partition(":")[0]
        size = rule.default_size
        if rule.limit and (requested := params.get(rule.limit)) is not None:
            text = str(requested)
            size = int(text) if text.lstrip("-").isdigit() else 0
            if not rule.min_size <= size <= rule.max_size:
                message = f"Value '{text}' at '{rule.limit}' must be between {rule.min_size} and {rule.max_size}"
                raise api_error(service, "value", message)
        listing = f"{operation}/{subject}"
        start, empty_given = 0, False
        if token := params.get(rule.token):
            start, empty_given = self._read(str(token), listing, service)
        if not empty_given and self._empty and Draw(self._seed, "empty", listing, start).chance(self._empty):
            return Page(start, 0, self._token(listing, start, empty_given=True))
        end = start + size
        return Page(start, size, self._token(listing, end, empty_given=False) if end < total else None)

    def _token(self, listing: str, start: int, *, empty_given: bool) -> str:
        text = f"{start}{'e' if empty_given else ''}".encode()
        return urlsafe_b64encode(self._mac(listing, text) + text).decode()

    def _read(self, token: str, listing: str, service: str) -> tuple[int, bool]:
        try:
            decoded = urlsafe_b64decode(token.encode())
        except (binascii.Error, UnicodeEncodeError):
            decoded = b""
        mac, text = decoded[:MAC_BYTES], decoded[MAC_BYTES:]
        if not text or mac != self._mac(listing, text):
            raise api_error(service, "page", "The token that was given does not belong to this listing.")
        return int(text.rstrip(b"e")), text.endswith(b"e")

    def _mac(self, listing: str, text: bytes) -> bytes:
        return blake2b(listing.encode() + b"/" + text, key=self._key, digest_size=MAC_BYTES).digest()
