"""Pagination: documented page sizes, opaque tokens bound to their listing, and empty pages."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from benchmarks.fake_aws.aws_protocols import api_error
from benchmarks.fake_aws.seeded_random import Draw
from crawler.iam_policies import operations
from crawler.spec import Paging

MAC_BYTES = 9
"""Bytes."""


@dataclass(frozen=True, slots=True)
class PageSize:
    """The minimum, default and maximum page size of an operation."""

    minimum: int
    default: int
    maximum: int


_RDS = ("Instances", "Clusters", "Snapshots", "ClusterSnapshots", "InstanceAutomatedBackups", "ClusterAutomatedBackups")
PAGE_SIZES: Mapping[str, PageSize] = {
    "kms:ListKeys": PageSize(1, 100, 1000),
    "kms:ListAliases": PageSize(1, 50, 100),
    "kms:ListGrants": PageSize(1, 50, 100),
    "kms:ListResourceTags": PageSize(1, 50, 50),
    "kms:ListKeyRotations": PageSize(1, 100, 1000),
    "kms:DescribeCustomKeyStores": PageSize(1, 50, 1000),
    "organizations:ListAccounts": PageSize(1, 20, 20),
    "organizations:ListRoots": PageSize(1, 20, 20),
    "organizations:ListOrganizationalUnitsForParent": PageSize(1, 20, 20),
    "organizations:ListAccountsForParent": PageSize(1, 20, 20),
    "organizations:ListTagsForResource": PageSize(1, 50, 50),
    "account:ListRegions": PageSize(1, 50, 50),
    "iam:GetAccountAuthorizationDetails": PageSize(1, 100, 1000),
    "secretsmanager:ListSecrets": PageSize(1, 100, 100),
    **{f"rds:DescribeDB{name}": PageSize(20, 100, 100) for name in _RDS},
    "elasticache:DescribeReplicationGroups": PageSize(20, 100, 100),
    "elasticache:DescribeCacheClusters": PageSize(20, 100, 100),
    "elasticache:DescribeSnapshots": PageSize(20, 50, 50),
    "elasticache:DescribeServerlessCaches": PageSize(1, 50, 100),
    "elasticache:DescribeServerlessCacheSnapshots": PageSize(1, 50, 50),
    "s3:ListBuckets": PageSize(1, 10_000, 10_000),
}
"""Documented page sizes. ListAliases: the documented maximum is 100, the maximum in the service model 1,000."""
PAGING: Mapping[str, Paging] = {str(each): each.paging for each in operations() if each.paging is not None}
"""The members that carry token and page size, as the crawler declares them."""


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
        paging = PAGING[operation]
        sizes = PAGE_SIZES.get(operation) or PageSize(1, paging.size or 100, paging.size or 100)
        service = operation.partition(":")[0]
        size = sizes.default
        if paging.limit and (requested := params.get(paging.limit)) is not None:
            text = str(requested)
            size = int(text) if text.lstrip("-").isdigit() else 0
            if not sizes.minimum <= size <= sizes.maximum:
                message = f"Value '{text}' at '{paging.limit}' must be between {sizes.minimum} and {sizes.maximum}"
                raise api_error(service, "value", message)
        listing = f"{operation}/{subject}"
        start, empty_given = 0, False
        if token := params.get(paging.send):
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
