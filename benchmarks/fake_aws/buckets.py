"""Buckets: listed per account, read in their own region."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import Account
from benchmarks.fake_aws.entity_lifecycle import Entity, existing_entities, tags, to_datetime
from benchmarks.fake_aws.key_reference_generator import ReferenceScope, key_reference
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw


class BucketScope(Protocol):
    """The properties of the organization that buckets depend on."""

    parameters: Parameters

    def account_region(self, account_id: str, region: str, day: int = 0) -> ReferenceScope:
        """An account in a region."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`algorithm` and `key` are the default encryption; None: no default encryption, as before 2023."""

    name: str
    region: str
    created: dt.datetime
    algorithm: str | None
    key: str | None
    tags: tuple[tuple[str, str], ...]


class Buckets:
    """The buckets of an account on a day."""

    def __init__(self, world: BucketScope, account: Account, day: int) -> None:
        self._world = world
        self._account = account
        self._day = day

    @cached_property
    def entries(self) -> list[Bucket]:
        """All buckets, ordered by name."""
        parameters = self._world.parameters
        if not parameters.resources or not self._account.active:
            return []
        median, sigma, low, high = assumed.BUCKETS
        count = self._draw("count").lognormal(median * parameters.resources, sigma, low, high)
        buckets = [self._bucket(item) for item in existing_entities(parameters, self._day, "bucket", count, self._draw)]
        if parameters.adversarial and self._account.index == 1:
            template = replace(
                buckets[0] if buckets else self._bucket(self._template_entity()), region=parameters.regions[0], tags=()
            )
            base = f"fake-{self._account.id}-odd"
            buckets += [
                replace(template, name=f"{base}-unencrypted", algorithm=None, key=None),
                replace(template, name=f"{base}-fsx", algorithm="aws:fsx", key=None),
                replace(template, name=f"{base}-dsse", algorithm="aws:kms:dsse", key=None),
                replace(template, name=f"{base}-alias", algorithm="aws:kms", key="alias/odd/crowded"),
                replace(template, name=f"{base}.with.dots", algorithm="AES256", key=None),
                # AWS allows markup in tag keys.
                replace(template, name=f"{base}-tagged", tags=(("<b>&amp;</b>", "\u00e9 \"'"), ("empty", ""))),
            ]
        return sorted(buckets, key=lambda bucket: bucket.name)

    @cached_property
    def by_name(self) -> dict[str, Bucket]:
        """The buckets by name."""
        return {bucket.name: bucket for bucket in self.entries}

    def _draw(self, *parts: object) -> Draw:
        return Draw(self._world.parameters.seed, self._account.id, "buckets", *parts)

    def _template_entity(self) -> Entity:
        return Entity("plain", 0.0, 0, 0, self._draw("plain"))

    def _bucket(self, item: Entity) -> Bucket:
        region = item.draw.pick(self._account.active)
        kind = item.draw.weighted(assumed.BUCKET_ENCRYPTION)
        key = None
        if kind == "customer key":
            account_region = self._world.account_region(self._account.id, region, self._day)
            key = key_reference(account_region, Draw(item.draw.hexes(16), "key", item.rekeyed), sentinels=False)
        algorithm = "AES256" if kind == "AES256" else "aws:kms"
        labels = tuple((tag["Key"], tag["Value"]) for tag in tags(item)) if item.draw.chance(0.7) else ()
        name = f"fake-{self._account.id}-{item.draw.pick(('logs', 'data', 'assets', 'backup'))}-{item.name}"
        return Bucket(name, region, to_datetime(item.created), algorithm, key, labels)
