"""What a night's crawl must know: the truth about the fake organization, and what remains known behind gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.fake_aws.keys import Key
from benchmarks.fake_aws.world_state import World

Scope = tuple[str, str]
"""Account and region."""


@dataclass(frozen=True)
class Conditions:
    """What is different from an organization that answers everything; the rest is as usual."""

    absent: frozenset[str] = frozenset()
    suspended: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    """Accounts whose role is gone."""
    unread: frozenset[Scope] = frozenset()
    """Account-regions whose keys cannot be listed."""
    partial: frozenset[Scope] = frozenset()
    """Account-regions in which another call fails."""
    untouched: bool = False
    """Nothing is read at all."""


@dataclass
class Knowledge:
    """The keys that are known by account-region, each with whether its rotation is off; kept where a night reads nothing."""

    world: World
    regions: tuple[str, ...]
    keys: dict[Scope, Mapping[str, bool]] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)

    def learn(self, day: int, conditions: Conditions) -> Expected:
        """Apply a night, and return what its mart must show."""
        weights: dict[str, int] = {"complete": 0, "partial": 0, "failed": 0}
        fresh: set[str] = set()
        for account in self.world.accounts:
            if conditions.untouched or account.id in conditions.absent | conditions.suspended:
                continue
            if account.id in conditions.refused:
                weights["failed"] += len(self.regions) if account.id in self.entered else 1
                continue
            self.entered.add(account.id)
            for region in self.regions:
                scope = (account.id, region)
                facts = {} if scope in conditions.unread else self._read(day, scope)
                denied = {arn for arn, off in facts.items() if off is None}
                is_partial = scope in conditions.unread | conditions.partial or bool(denied)
                weights["partial" if is_partial else "complete"] += 1
                if scope not in conditions.unread:
                    before = self.keys.get(scope, {})
                    self.keys[scope] = {
                        arn: before.get(arn, False) if off is None else off for arn, off in facts.items()
                    }
                    fresh |= facts.keys() - denied
        off = frozenset(key for keys in self.keys.values() for key, is_off in keys.items() if is_off)
        return Expected(
            keys=frozenset(key for keys in self.keys.values() for key in keys),
            failing=off & fresh,
            remembered=off - fresh,
            coverage=(weights["complete"], weights["partial"], weights["failed"]),
        )

    def _read(self, day: int, scope: Scope) -> dict[str, bool | None]:
        """The keys of an account-region, and whether their rotation is off; None where the key's own policy denies it."""
        account_region = self.world.account_region(*scope, day=day)
        keys = [account_region.key(key_id) for key_id in account_region.key_ids]
        return {
            key.arn: None if "GetKeyRotationStatus" in key.denied else _rotation_is_off(key)
            for key in keys
            if key is not None
        }


@dataclass(frozen=True)
class Expected:
    """The contents of a mart."""

    keys: frozenset[str]
    """All keys, those behind gaps included."""
    failing: frozenset[str]
    """The keys that were read and whose rotation is off: exactly these fail the rule key-rotation among those that were read."""
    remembered: frozenset[str]
    """The keys that were not read and whose rotation was off, behind gaps or in accounts that left: their findings stay."""
    coverage: tuple[int, int, int]
    """Account-regions that are complete, partial and failed."""


def _rotation_is_off(key: Key) -> bool:
    metadata = key.metadata
    rotates = (
        metadata["KeyManager"] == "CUSTOMER"
        and metadata["KeySpec"] == "SYMMETRIC_DEFAULT"
        and metadata["Origin"] == "AWS_KMS"
        and metadata["KeyState"] == "Enabled"
        and metadata.get("MultiRegionConfiguration", {}).get("MultiRegionKeyType") != "REPLICA"
    )
    return rotates and key.rotation is not None and not key.rotation["KeyRotationEnabled"]
