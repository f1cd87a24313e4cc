"""A generated AWS organization, computed on demand.

    world = World(preset("tiny", seed=3))
    account_region = world.account_region(world.accounts[1].id, "us-east-1", day=2)
    account_region.key(account_region.key_ids[0]).metadata

Everything is a pure function of parameters, account, region and day. A thousand accounts in 17 regions use no memory until
they are read, and every process with the same parameters computes the same organization.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import cached_property
from typing import Any

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import UNITS, Account, make_account
from benchmarks.fake_aws.buckets import Buckets
from benchmarks.fake_aws.caches import Caches
from benchmarks.fake_aws.databases import Databases
from benchmarks.fake_aws.edge_cases import EDGE_CASES, POSITIONS
from benchmarks.fake_aws.id_encoding import (
    CUSTOMER,
    EDGE_CASE_KEYS,
    MANAGED,
    MANAGED_SERVICES,
    MULTI,
    PREDEFINED,
    Ids,
    MultiRegionSet,
    alias_names,
    kind_of,
    make_slot,
    multi_region_sets,
    number_of,
)
from benchmarks.fake_aws.keys import STORES, Key, make_key
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.secrets import Secrets
from benchmarks.fake_aws.seeded_random import Draw, hexes

MAX_CACHED_KEYS = 4096
"""The number of cached keys: a client makes several calls for a key in a row."""
MAX_CACHED_WEIGHT = 120_000
"""The total weight of the cached account-regions; see `AccountRegion.weight`."""
MAX_CACHED_BUCKET_LISTINGS = 256


class AccountRegion:
    """One account in one region on one day."""

    def __init__(self, world: World, account: Account, region: str, day: int) -> None:
        self.world = world
        self.parameters = world.parameters
        self.account = account
        self.account_id = account.id
        self.region = region
        self.day = day
        self.active = region in account.active
        self.closed = region in account.denied
        """Whether an SCP denies the region."""
        self.other = world.other_than(account.index)
        self._ids = Ids(self.parameters.seed, account.id, region)
        self._changes: dict[int, list[tuple[int, str]]] = {}
        self._families = {f.key_id: n for n, f in enumerate(world.families(account.index)) if region in f.regions}
        self.has_edge_cases = (
            self.parameters.adversarial and account.index == 1 and region == self.parameters.regions[0]
        )
        """Whether the edge cases are in this account-region."""
        self.slots = self._slots()
        self.weight = (500 if self.active else 50) + len(self.slots)
        """The memory use, in keys; includes an allowance for resources."""

    def changes(self, slot: int) -> list[tuple[int, str]]:
        """Day and kind of all changes in a slot."""
        return self._changes.get(slot, [])

    def multi(self, number: int) -> MultiRegionSet:
        """A set of multi-Region keys of the account."""
        return self.world.families(self.account.index)[number]

    @cached_property
    def key_ids(self) -> list[str]:
        """All keys in listing order."""
        return [self.key_id(slot) for slot in self.slots]

    @cached_property
    def customer_slots(self) -> list[int]:
        """The slots of customer managed keys."""
        return [slot for slot in self.slots if kind_of(slot) != MANAGED]

    @cached_property
    def aliases(self) -> list[dict[str, Any]]:
        """The response of kms:ListAliases."""
        created = START - 300 * DAY
        result = [
            self._alias(name, slot, created, moved)
            for slot in self.customer_slots
            for name, slot, moved in self._names(slot)
        ]
        managed = {MANAGED_SERVICES[number_of(slot)]: slot for slot in self.slots if kind_of(slot) == MANAGED}
        result += [self._alias(f"alias/aws/{service}", slot, created, None) for service, slot in managed.items()]
        draw = Draw(self.parameters.seed, self.account_id, self.region, "predefined")
        unused = [service for service in PREDEFINED if service not in managed]
        for service in unused[: draw.between(*assumed.PREDEFINED_ALIASES)]:
            name = f"alias/aws/{service}"
            result.append({"AliasName": name, "AliasArn": f"arn:aws:kms:{self.region}:{self.account_id}:{name}"})
        return result

    @cached_property
    def stores(self) -> list[dict[str, Any]]:
        """The response of kms:DescribeCustomKeyStores; like AWS, without the secret of the proxy."""
        if not self.has_edge_cases:
            return []
        proxy = {
            "Connectivity": "PUBLIC_ENDPOINT",
            "AccessKeyId": "ABCDE12345670EXAMPLE",
            "UriEndpoint": "https://xks.fake.example",
            "UriPath": "/kms/xks/v1",
        }
        external = {
            "CustomKeyStoreId": STORES[0],
            "CustomKeyStoreName": "external",
            "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "ConnectionState": "FAILED",
            "ConnectionErrorCode": "XKS_PROXY_NOT_REACHABLE",
            "CreationDate": START - 500 * DAY,
            "XksProxyConfiguration": proxy,
        }
        hardware = {
            "CustomKeyStoreId": STORES[1],
            "CustomKeyStoreName": "hardware",
            "CustomKeyStoreType": "AWS_CLOUDHSM",
            "CloudHsmClusterId": "cluster-1a23b4cdefg",
            "TrustAnchorCertificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "ConnectionState": "CONNECTED",
            "CreationDate": START - 700 * DAY,
        }
        return [external, hardware]

    @cached_property
    def secrets(self) -> list[dict[str, Any]]:
        """The response of secretsmanager:ListSecrets with IncludePlannedDeletion."""
        return Secrets(self).entries

    @cached_property
    def secrets_by_arn(self) -> dict[str, dict[str, Any]]:
        """The secrets by ARN."""
        return {secret["ARN"]: secret for secret in self.secrets}

    @cached_property
    def databases(self) -> Databases:
        """The RDS resources."""
        return Databases(self)

    @cached_property
    def caches(self) -> Caches:
        """The ElastiCache resources."""
        return Caches(self)

    def key(self, key_id: str) -> Key | None:
        """A key by id; None if it does not exist or was deleted."""
        cached, name = self.world.cached_keys, (self.account_id, self.region, self.day, key_id)
        result = cached.get(name)
        if result is not None:
            return result
        number = self._families.get(key_id)
        slot = self._ids.decode(key_id) if number is None else make_slot(MULTI, number)
        if slot is None or slot not in self._existing_slots:
            return None
        result = cached[name] = make_key(self, slot, key_id)
        if len(cached) > MAX_CACHED_KEYS:
            cached.popitem(last=False)
        return result

    def key_id(self, slot: int) -> str:
        """The key id of a slot, even if no such key exists."""
        return self.multi(number_of(slot)).key_id if kind_of(slot) == MULTI else self._ids.encode(slot)

    def edge_case_key(self, name: str) -> str:
        """The id of an edge-case key (see `benchmarks.fake_aws.edge_cases`)."""
        return self.key_id(make_slot(EDGE_CASE_KEYS, POSITIONS[name]))

    def draw(self, *parts: object) -> Draw:
        """Random numbers that depend on the account and region, not on the day."""
        return Draw(self.parameters.seed, self.account_id, self.region, *parts)

    @cached_property
    def initial_customer_keys(self) -> int:
        """The initial number of ordinary customer keys."""
        return self._population()[0]

    @cached_property
    def _existing_slots(self) -> set[int]:
        return set(self.slots)

    def _slots(self) -> list[int]:
        number, managed = self._population()
        customer_slots = self._apply_changes([make_slot(CUSTOMER, n) for n in range(number)])
        families = sorted(make_slot(MULTI, n) for n in self._families.values())
        edge_cases = [make_slot(EDGE_CASE_KEYS, n) for n in range(len(EDGE_CASES))] if self.has_edge_cases else []
        return [*customer_slots, *families, *edge_cases, *(make_slot(MANAGED, n) for n in range(managed))]

    def _population(self) -> tuple[int, int]:
        """The initial numbers of customer keys and AWS managed keys."""
        draw, parameters = self.draw("population"), self.parameters
        if not self.active:
            optional = self.region in parameters.opt_in
            return 0, 0 if optional or not draw.chance(assumed.UNUSED_WITH_MANAGED_KEYS) else draw.between(1, 2)
        managed = draw.lognormal(*assumed.MANAGED_KEYS)
        special = self.world.large_account_regions.get((self.account_id, self.region))
        if special is not None:
            return special, managed
        if parameters.keys_per_account_region is not None:
            return parameters.keys_per_account_region, managed
        if parameters.dense:
            return draw.between(3, 6), min(managed, 6)
        if draw.chance(assumed.ACTIVE_WITHOUT_CUSTOMER_KEYS):
            return 0, managed
        return draw.lognormal(*assumed.CUSTOMER_KEYS), managed

    def _apply_changes(self, existing: list[int]) -> list[int]:
        """The customer key slots after all days; records the changes of each slot."""
        rate = self.parameters.change_rate
        for day in range(1, self.day + 1):
            kept: list[int] = []
            created: list[int] = []
            for slot in existing:
                draw = self.draw(slot, "night", day)
                if not draw.chance(rate):
                    kept.append(slot)
                    continue
                what = draw.weighted(assumed.KEY_CHANGES)
                before = self._changes.setdefault(slot, [])
                scheduled = any(each == "scheduled" for _, each in before)
                if what == "created":
                    created.append(make_slot(CUSTOMER, number_of(slot), day))
                elif what == "gone" and scheduled:
                    continue
                else:
                    # A key is scheduled for deletion before it is deleted.
                    before.append((day, "scheduled" if what == "gone" else what))
                kept.append(slot)
            existing = [*kept, *dict.fromkeys(created)]
        return existing

    def _names(self, slot: int) -> list[tuple[str, int, float | None]]:
        """The alias names of a slot, each with its target slot and the time of the last move."""
        if kind_of(slot) == EDGE_CASE_KEYS:
            edge_case = EDGE_CASES[number_of(slot)]
            base = f"alias/odd/{edge_case.name}"
            return [(base + (f"-{n}" if n else ""), slot, None) for n in range(edge_case.aliases)]
        moves = [day for day, what in self.changes(slot) if what == "alias"]
        names = alias_names(self.parameters.seed, self.account_id, self.region, slot, minimum=1 if moves else 0)
        if not moves:
            return [(name, slot, None) for name in names]
        target = self.customer_slots[(self.customer_slots.index(slot) + len(moves)) % len(self.customer_slots)]
        moved = START + (moves[-1] - 0.25) * DAY
        return [(names[0], target, moved), *((name, slot, None) for name in names[1:])]

    def _alias(self, name: str, slot: int, created: float, moved: float | None) -> dict[str, Any]:
        return {
            "AliasName": name,
            "AliasArn": f"arn:aws:kms:{self.region}:{self.account_id}:{name}",
            "TargetKeyId": self.key_id(slot),
            "CreationDate": created,
            "LastUpdatedDate": created if moved is None else moved,
        }


class World:
    """The organization. Accounts are computed at the start, the rest on demand."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.accounts = [make_account(parameters, index) for index in range(parameters.accounts)]
        self._account_regions: OrderedDict[tuple[str, str, int], AccountRegion] = OrderedDict()
        self._buckets: OrderedDict[tuple[int, int], Buckets] = OrderedDict()
        self.cached_keys: OrderedDict[tuple[str, str, int, str], Key] = OrderedDict()
        """The most recently read keys of all account-regions."""
        self._weight = 0
        self._families: dict[int, list[MultiRegionSet]] = {}
        self.large_account_regions = self._large_account_regions()

    @property
    def management(self) -> Account:
        """The management account."""
        return self.accounts[0]

    @property
    def giant(self) -> tuple[str, str]:
        """Account id and region of the giant account-region."""
        return self.accounts[min(2, len(self.accounts) - 1)].id, self.parameters.regions[0]

    @property
    def access_key(self) -> str:
        """The access key of the crawl user in the management account."""
        return "AKIA" + hexes(16, self.parameters.seed, "access key").upper()

    @property
    def secret_key(self) -> str:
        """The secret key of `access_key`."""
        return hexes(40, self.parameters.seed, "secret key")

    @property
    def units(self) -> dict[str, str]:
        """Ids of the organizational units below the root, by name."""
        return UNITS

    def account(self, account_id: str) -> Account | None:
        """An account of the organization by id."""
        index = self.parameters.account_index(account_id)
        return None if index is None else self.accounts[index]

    def other_than(self, index: int) -> str:
        """The id of another account, always the same for an index."""
        others = len(self.accounts) - 1
        if not others:
            return self.accounts[0].id
        return self.accounts[
            (index + 1 + Draw(self.parameters.seed, "other", index).between(0, others - 1)) % (others + 1)
        ].id

    def families(self, index: int) -> list[MultiRegionSet]:
        """The multi-Region keys of an account."""
        result = self._families.get(index)
        if result is None:
            account = self.accounts[index]
            has_edge_cases = self.parameters.adversarial and index == 1
            result = list(
                multi_region_sets(self.parameters, account.id, account.active, with_edge_cases=has_edge_cases)
            )
            self._families[index] = result
        return result

    def account_region(self, account_id: str, region: str, day: int = 0) -> AccountRegion:
        """An account-region of the organization. Raises KeyError for an unknown account or region."""
        cache_key = (account_id, region, day)
        result = self._account_regions.get(cache_key)
        if result is None:
            account = self.account(account_id)
            if account is None or region not in {*self.parameters.regions, *self.parameters.opt_in}:
                raise KeyError(f"{account_id}/{region}")
            result = self._account_regions[cache_key] = AccountRegion(self, account, region, day)
            self._weight += result.weight
            while self._weight > MAX_CACHED_WEIGHT and len(self._account_regions) > 1:
                _, evicted = self._account_regions.popitem(last=False)
                self._weight -= evicted.weight
        else:
            self._account_regions.move_to_end(cache_key)
        return result

    def buckets(self, account_id: str, day: int = 0) -> Buckets:
        """The buckets of an account in all regions."""
        account = self.account(account_id)
        if account is None:
            raise KeyError(account_id)
        cache_key = (account.index, day)
        result = self._buckets.get(cache_key)
        if result is None:
            result = self._buckets[cache_key] = Buckets(self, account, day)
            if len(self._buckets) > MAX_CACHED_BUCKET_LISTINGS:
                self._buckets.popitem(last=False)
        return result

    def _large_account_regions(self) -> dict[tuple[str, str], int]:
        """The number of customer keys of exceptionally large account-regions."""
        result: dict[tuple[str, str], int] = {}
        low, high = assumed.OUTLIER_KEYS
        for number in range(self.parameters.outliers):
            draw = Draw(self.parameters.seed, "outlier", number)
            account = draw.pick(self.accounts)
            pareto = low * math.pow(1 - draw.unit(), -1 / 1.1)
            result[account.id, account.active[0]] = min(high, int(pareto))
        if self.parameters.giant_keys:
            result[self.giant] = self.parameters.giant_keys
        return result
