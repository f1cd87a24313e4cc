"""Slots: small numbers for the keys of an account-region, encoded in the key ids.

A key id contains its masked slot, so that a key can be looked up without a table of all keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw, hexes

KIND_SHIFT = 44
"""Bits below the kind of a slot: the lower ones are the number, the upper ones the day of creation."""
DAY_SHIFT = 24
CUSTOMER, MULTI, EDGE_CASE_KEYS, MANAGED = 0, 1, 2, 3
MANAGED_SERVICES = (
    "ebs",
    "rds",
    "s3",
    "secretsmanager",
    "lambda",
    "ssm",
    "dynamodb",
    "elasticfilesystem",
    "sns",
    "sqs",
    "kinesis",
    "es",
    "glue",
    "acm",
    "backup",
    "cloud9",
    "fsx",
    "workspaces",
)
PREDEFINED = (*MANAGED_SERVICES, "codecommit", "connect", "dax", "kafka", "lightsail", "mq", "redshift", "xray")
"""Services whose aws/ alias is listed even without a key."""


def make_slot(kind: int, number: int, day: int = 0) -> int:
    """The slot of a kind, number and day of creation."""
    return (kind << KIND_SHIFT) | (day << DAY_SHIFT) | number


def kind_of(slot: int) -> int:
    """CUSTOMER, MULTI, EDGE_CASE_KEYS or MANAGED."""
    return slot >> KIND_SHIFT


def day_of(slot: int) -> int:
    """The day on which the key was created; 0: initially present."""
    return (slot >> DAY_SHIFT) & ((1 << (KIND_SHIFT - DAY_SHIFT)) - 1)


def number_of(slot: int) -> int:
    """The number within kind and day."""
    return slot & ((1 << DAY_SHIFT) - 1)


def alias_names(seed: int, account_id: str, region: str, slot: int, *, minimum: int = 0) -> list[str]:
    """The alias names of a customer key."""
    draw = Draw(seed, account_id, region, slot, "aliases")
    count = max(minimum, draw.between(*draw.weighted(assumed.ALIASES)))
    first = f"alias/{draw.pick(('app', 'data', 'payments', 'logs', 'backup', 'tenant'))}-{slot:x}"
    return [first, *(f"{first}-{number}" for number in range(1, count))][:count]


class Ids:
    """Encodes and decodes the key ids of one account-region."""

    __slots__ = ("_base", "_mask")

    def __init__(self, seed: int, account_id: str, region: str) -> None:
        self._base = f"{seed}/{account_id}/{region}"
        self._mask = int.from_bytes(blake2b(self._base.encode(), digest_size=6).digest(), "big")

    def encode(self, slot: int) -> str:
        """The key id of a slot."""
        head = blake2b(f"{self._base}/{slot}".encode(), digest_size=10).hexdigest()
        return f"{head[:8]}-{head[8:12]}-4{head[13:16]}-a{head[17:20]}-{slot ^ self._mask:012x}"

    def decode(self, key_id: str) -> int | None:
        """The slot of a key id; None for other ids."""
        try:
            slot = int(key_id[-12:], 16) ^ self._mask
        except ValueError:
            return None
        return slot if self.encode(slot) == key_id else None


@dataclass(frozen=True, slots=True)
class MultiRegionSet:
    """A multi-Region key with its replicas. `pending_deletion`: its deletion waits for the replicas."""

    key_id: str
    primary: str
    replicas: tuple[str, ...]
    pending_deletion: bool = False

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions of the primary key and the replicas."""
        return (self.primary, *self.replicas)


def multi_region_sets(
    parameters: Parameters, account_id: str, active: tuple[str, ...], *, with_edge_cases: bool
) -> Iterator[MultiRegionSet]:
    """The multi-Region keys of an account; the account with the edge cases has two additional ones."""

    def key_id(number: int) -> str:
        return "mrk-" + hexes(32, parameters.seed, account_id, "multi-Region", number)

    planned = 0
    regions = parameters.regions
    if with_edge_cases and len(regions) >= 3:
        planned = 2
        yield MultiRegionSet(key_id(0), regions[0], (regions[1], regions[2]))
        yield MultiRegionSet(key_id(1), regions[0], (regions[1],), pending_deletion=True)
    draw = Draw(parameters.seed, account_id, "multi-Region")
    for number in range(planned, planned + int(draw.unit() + assumed.MULTI_REGION_SETS * len(active))):
        count = draw.between(*draw.weighted(assumed.MULTI_REGION_REPLICAS))
        primary = draw.pick(active)
        offered = [region for region in regions if region != primary]
        replicas = tuple(dict.fromkeys(draw.pick(offered) for _ in range(count))) if offered else ()
        yield MultiRegionSet(key_id(number), primary, replicas)
