"""The condition keys: what determines their value, which operations carry them, and how a restriction by them reads.

The facts are in condition_keys.json, by source, from the KMS developer guide ("AWS KMS condition keys") and the IAM user
guide ("AWS global condition context keys"). A name that ends with a colon or slash stands for all keys with this prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from importlib import resources

import orjson

from reports.access.engine.kms_actions import ALL, CRYPTO, SYMMETRIC, mask


class Source(Enum):
    """Where the value of a condition key comes from."""

    CALLER = "the caller"
    KEY = "the KMS key"
    REQUEST = "the caller's choice"
    SERVICE = "an AWS service that acts on behalf of the caller"
    NETWORK = "the network from which the request originates"
    DEPUTY = "the resource on whose behalf a service calls"
    CLOCK = "the time"
    USAGE = "the past use of the KMS key"
    """It changes without a change of policies, so every value is possible."""
    OTHER = "no KMS request"
    """A key that another service defines, or that only the sessions of AssumeRoot carry."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ConditionKey:
    """The properties of a condition key."""

    source: Source = Source.UNKNOWN
    operations: int = ALL
    """The operations whose requests carry the key; all operations for a global or unknown key."""
    multivalued: bool = False
    boolean: bool = False
    always_present: bool = False
    """Every request of its operations carries the key."""
    identifies_caller: bool = False
    """Policies use it to restrict who may call."""
    other: str = "other-example"
    """A value that stands for all values that a policy does not mention."""
    restriction: str = ""
    """A restriction to some values, in English."""


_UNKNOWN = ConditionKey()


@cache
def condition_keys() -> dict[str, ConditionKey]:
    """Return the known keys and prefixes by name (lower case)."""
    text = resources.files("reports.access.engine").joinpath("condition_keys.json").read_bytes()
    groups = {"@symmetric": SYMMETRIC, "@crypto": CRYPTO}
    keys = {}
    for source, properties_by_name in orjson.loads(text).items():
        for name, properties in properties_by_name.items():
            if "operations" in properties:
                operations = (groups.get(operation, {operation}) for operation in properties["operations"])
                properties["operations"] = mask(set().union(*operations))
            keys[name] = ConditionKey(Source[source.upper()], **properties)
    return keys


@lru_cache(maxsize=16_384)
def condition_key(name: str) -> ConditionKey:
    """Return the properties of a key (lower case)."""
    keys = condition_keys()
    prefixes = (known for known in keys if known.endswith((":", "/")) and name.startswith(known))
    return keys[name] if name in keys else keys.get(next(prefixes, ""), _UNKNOWN)
