"""Slots: small numbers for the keys of an account-region, and the key ids that carry them.

A key id holds its slot, masked, so that a key is found without a table of all keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw, hexes

KIND = 44
"""Bits below the kind of a slot; of those the lower half numbers the slot, the upper half is the night of its creation."""
NIGHT = 24
CUSTOMER, MULTI, ODD_KEYS, MANAGED = 0, 1, 2, 3
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
"""Services whose aws/ alias is listed whether or not there is a key behind it."""


def slot(kind: int, number: int, night: int = 0) -> int:
    """The slot of this kind, number and night of creation."""
    return (kind << KIND) | (night << NIGHT) | number


def kind_of(at: int) -> int:
    """CUSTOMER, MULTI, ODD_KEYS or MANAGED."""
    return at >> KIND


def night_of(at: int) -> int:
    """The night in which the key was made; 0: before the first."""
    return (at >> NIGHT) & ((1 << (KIND - NIGHT)) - 1)


def number_of(at: int) -> int:
    """The number within kind and night."""
    return at & ((1 << NIGHT) - 1)


def alias_names(seed: int, account_id: str, region: str, at: int, *, least: int = 0) -> list[str]:
    """Names of a customer key's aliases."""
    draw = Draw(seed, account_id, region, at, "aliases")
    count = max(least, draw.between(*draw.weighted(assumed.ALIASES)))
    first = f"alias/{draw.pick(('app', 'data', 'payments', 'logs', 'backup', 'tenant'))}-{at:x}"
    return [first, *(f"{first}-{number}" for number in range(1, count))][:count]


class Ids:
    """Key ids of one account-region."""

    __slots__ = ("_base", "_mask")

    def __init__(self, seed: int, account_id: str, region: str) -> None:
        self._base = f"{seed}/{account_id}/{region}"
        self._mask = int.from_bytes(blake2b(self._base.encode(), digest_size=6).digest(), "big")

    def encode(self, at: int) -> str:
        """The key id of a slot."""
        head = blake2b(f"{self._base}/{at}".encode(), digest_size=10).hexdigest()
        return f"{head[:8]}-{head[8:12]}-4{head[13:16]}-a{head[17:20]}-{at ^ self._mask:012x}"

    def decode(self, key_id: str) -> int | None:
        """The slot of a key id; None for ids that were not made here."""
        try:
            at = int(key_id[-12:], 16) ^ self._mask
        except ValueError:
            return None
        return at if self.encode(at) == key_id else None


@dataclass(frozen=True, slots=True)
class MultiRegionSet:
    """A multi-Region key with its replicas: one key id in several regions. `leaving`: its deletion waits for replicas."""

    key_id: str
    primary: str
    replicas: tuple[str, ...]
    leaving: bool = False

    @property
    def regions(self) -> tuple[str, ...]:
        """Everywhere it is."""
        return (self.primary, *self.replicas)


def multi_region_sets(
    parameters: Parameters, account_id: str, active: tuple[str, ...], *, odd: bool
) -> Iterator[MultiRegionSet]:
    """The multi-Region keys of an account; the first two of the account with the odd keys are planned."""

    def key_id(number: int) -> str:
        return "mrk-" + hexes(32, parameters.seed, account_id, "multi-Region", number)

    planned = 0
    regions = parameters.regions
    if odd and len(regions) >= 3:
        planned = 2
        yield MultiRegionSet(key_id(0), regions[0], (regions[1], regions[2]))
        yield MultiRegionSet(key_id(1), regions[0], (regions[1],), leaving=True)
    draw = Draw(parameters.seed, account_id, "multi-Region")
    for number in range(planned, planned + int(draw.unit() + assumed.MULTI_REGION_SETS * len(active))):
        count = draw.between(*draw.weighted(assumed.MULTI_REGION_REPLICAS))
        primary = draw.pick(active)
        offered = [region for region in regions if region != primary]
        replicas = tuple(dict.fromkeys(draw.pick(offered) for _ in range(count))) if offered else ()
        yield MultiRegionSet(key_id(number), primary, replicas)
