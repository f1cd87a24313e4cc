"""Resources that are created, deleted, re-encrypted and re-tagged from day to day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.key_reference_generator import ReferenceScope, key_reference
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.seeded_random import Draw

Shape = dict[str, Any]
LogNormal = tuple[float, float, int, int]


class AccountRegion(ReferenceScope, Protocol):
    """The account-region of resources."""

    day: int
    active: bool
    has_edge_cases: bool

    def draw(self, *parts: object) -> Draw:
        """Random numbers that depend on the account and region, not on the day."""

    def edge_case_key(self, name: str) -> str:
        """The id of an edge-case key."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A resource: its name, its creation time, and how often it was re-encrypted and re-tagged."""

    name: str
    created: float
    rekeyed: int
    retagged: int
    draw: Draw


def to_datetime(seconds: float) -> dt.datetime:
    """A timestamp as a datetime in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def existing_entities(
    parameters: Parameters, day: int, kind: str, count: int, draw: Callable[..., Draw]
) -> Iterator[Entity]:
    """The resources of a kind that exist on a day."""
    for number in range(count):
        base = draw(kind, number)
        created = START - base.between(1, 1500) * DAY
        rekeyed = retagged = 0
        is_deleted = False
        for each in range(1, day + 1):
            change = draw(kind, number, "night", each)
            if not change.chance(parameters.change_rate):
                continue
            what = change.weighted(assumed.RESOURCE_CHANGES)
            rekeyed += what == "re-keyed"
            retagged += what == "tag"
            if what == "gone":
                is_deleted = True
                break
            if what == "created":
                yield Entity(f"{number}n{each}", START + (each - 0.25) * DAY, 0, 0, draw(kind, number, "made", each))
        if not is_deleted:
            yield Entity(f"{number}", created, rekeyed, retagged, base)


def tags(item: Entity) -> list[dict[str, str]]:
    """The tags of a resource, with members Key and Value."""
    labels = [{"Key": "Owner", "Value": f"team-{item.draw.between(1, 20)}"}]
    return [*labels, {"Key": "Reviewed", "Value": f"review-{item.retagged}"}] if item.retagged else labels


class ResourceFactory:
    """Generates the resources of one account-region."""

    def __init__(self, account_region: AccountRegion, service: str) -> None:
        self._account_region = account_region
        self._arn = f"arn:aws:{service}:{account_region.region}:{account_region.account_id}:"

    def items(self, kind: str, spread: LogNormal) -> Iterator[Entity]:
        """The resources of a kind; `spread` is the distribution of their number."""
        account_region = self._account_region
        if not account_region.active or not account_region.parameters.resources:
            return
        median, sigma, low, high = spread
        scaled = median * account_region.parameters.resources
        count = account_region.draw(kind).lognormal(scaled, sigma, low, high)
        yield from existing_entities(account_region.parameters, account_region.day, kind, count, account_region.draw)

    def key(self, item: Entity) -> str | None:
        """The key reference of a resource; None for the default key."""
        return key_reference(self._account_region, Draw(item.draw.hexes(16), "key", item.rekeyed))
