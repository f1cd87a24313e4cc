"""Resources that come, go, change their key and their tags overnight."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.key_reference_generator import Here, reference
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.seeded_random import Draw

Shape = dict[str, Any]
Spread = tuple[float, float, int, int]


class Place(Here, Protocol):
    """The account-region that resources are in."""

    night: int
    active: bool
    odd: bool

    def draw(self, *parts: object) -> Draw:
        """Numbers that depend on this account and region, not on the night."""

    def odd_key(self, name: str) -> str:
        """The id of an odd key."""


@dataclass(frozen=True, slots=True)
class Item:
    """A resource of some kind: its name, when it was made, and how often it was re-keyed and re-tagged since."""

    name: str
    created: float
    rekeyed: int
    retagged: int
    draw: Draw


def when(seconds: float) -> dt.datetime:
    """A time as XML services send it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def alive(parameters: Parameters, night: int, kind: str, count: int, draw: Callable[..., Draw]) -> Iterator[Item]:
    """The resources of a kind that there are on a night."""
    for number in range(count):
        base = draw(kind, number)
        created = START - base.between(1, 1500) * DAY
        rekeyed = retagged = 0
        gone = False
        for each in range(1, night + 1):
            change = draw(kind, number, "night", each)
            if not change.chance(parameters.change_rate):
                continue
            what = change.weighted(assumed.RESOURCE_CHANGES)
            rekeyed += what == "re-keyed"
            retagged += what == "tag"
            if what == "gone":
                gone = True
                break
            if what == "created":
                yield Item(f"{number}n{each}", START + (each - 0.25) * DAY, 0, 0, draw(kind, number, "made", each))
        if not gone:
            yield Item(f"{number}", created, rekeyed, retagged, base)


def tags(item: Item) -> list[dict[str, str]]:
    """Tags with members Key and Value."""
    found = [{"Key": "Owner", "Value": f"team-{item.draw.between(1, 20)}"}]
    return [*found, {"Key": "Reviewed", "Value": f"review-{item.retagged}"}] if item.retagged else found


class Kinds:
    """Makes the resources of one account-region."""

    def __init__(self, place: Place, service: str) -> None:
        self._place = place
        self._arn = f"arn:aws:{service}:{place.region}:{place.account_id}:"

    def items(self, kind: str, spread: Spread) -> Iterator[Item]:
        """The resources of a kind: median, sigma, least and most of their log-normal number."""
        place = self._place
        if not place.active or not place.parameters.resources:
            return
        median, sigma, low, high = spread
        scaled = median * place.parameters.resources
        count = place.draw(kind).lognormal(scaled, sigma, low, high)
        yield from alive(place.parameters, place.night, kind, count, place.draw)

    def key(self, item: Item) -> str | None:
        """The key of a resource as the service names it; None for the default key."""
        return reference(self._place, Draw(item.draw.hexes(16), "key", item.rekeyed))
