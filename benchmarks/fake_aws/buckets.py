"""Buckets: listed once an account, asked about in their own region."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import Account
from benchmarks.fake_aws.entity_lifecycle import Item, alive, tags, when
from benchmarks.fake_aws.key_reference_generator import Here, reference
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw


class Around(Protocol):
    """The organization as far as buckets depend on it."""

    parameters: Parameters

    def place(self, account_id: str, region: str, night: int = 0) -> Here:
        """An account-region."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`algorithm` and `key` are the default encryption; None: GetBucketEncryption finds none, as before 2023."""

    name: str
    region: str
    created: dt.datetime
    algorithm: str | None
    key: str | None
    tags: tuple[tuple[str, str], ...]


class Buckets:
    """The buckets of one account on one night."""

    def __init__(self, world: Around, account: Account, night: int) -> None:
        self._world = world
        self._account = account
        self._night = night

    @cached_property
    def listed(self) -> list[Bucket]:
        """By name."""
        parameters = self._world.parameters
        if not parameters.resources or not self._account.active:
            return []
        median, sigma, low, high = assumed.BUCKETS
        count = self._draw("count").lognormal(median * parameters.resources, sigma, low, high)
        found = [self._bucket(item) for item in alive(parameters, self._night, "bucket", count, self._draw)]
        if parameters.adversarial and self._account.index == 1:
            plain = replace(found[0] if found else self._bucket(self._plain()), region=parameters.regions[0], tags=())
            base = f"fake-{self._account.id}-odd"
            found += [
                replace(plain, name=f"{base}-unencrypted", algorithm=None, key=None),
                replace(plain, name=f"{base}-fsx", algorithm="aws:fsx", key=None),
                replace(plain, name=f"{base}-dsse", algorithm="aws:kms:dsse", key=None),
                replace(plain, name=f"{base}-alias", algorithm="aws:kms", key="alias/odd/crowded"),
                replace(plain, name=f"{base}.with.dots", algorithm="AES256", key=None),
                # Nobody should be able to name a tag so; AWS lets them.
                replace(plain, name=f"{base}-tagged", tags=(("<b>&amp;</b>", "\u00e9 \"'"), ("empty", ""))),
            ]
        return sorted(found, key=lambda bucket: bucket.name)

    @cached_property
    def by_name(self) -> dict[str, Bucket]:
        """For finding one."""
        return {bucket.name: bucket for bucket in self.listed}

    def _draw(self, *parts: object) -> Draw:
        return Draw(self._world.parameters.seed, self._account.id, "buckets", *parts)

    def _plain(self) -> Item:
        return Item("plain", 0.0, 0, 0, self._draw("plain"))

    def _bucket(self, item: Item) -> Bucket:
        region = item.draw.pick(self._account.active)
        kind = item.draw.weighted(assumed.BUCKET_ENCRYPTION)
        key = None
        if kind == "customer key":
            here = self._world.place(self._account.id, region, self._night)
            key = reference(here, Draw(item.draw.hexes(16), "key", item.rekeyed), sentinels=False)
        algorithm = "AES256" if kind == "AES256" else "aws:kms"
        labels = tuple((tag["Key"], tag["Value"]) for tag in tags(item)) if item.draw.chance(0.7) else ()
        name = f"fake-{self._account.id}-{item.draw.pick(('logs', 'data', 'assets', 'backup'))}-{item.name}"
        return Bucket(name, region, when(item.created), algorithm, key, labels)
