"""A made-up AWS organization, computed wherever somebody looks and forgotten again.

    world = World(preset("tiny", seed=3))
    place = world.place(world.accounts[1].id, "us-east-1", night=2)
    place.key(place.key_ids[0]).metadata

Everything is a pure function of parameters, account, region and night: a thousand accounts in 17 regions need no memory until
they are asked about, and what is asked about is what every other process with the same parameters sees.
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
from benchmarks.fake_aws.edge_cases import NUMBER, ODD
from benchmarks.fake_aws.id_encoding import (
    CUSTOMER,
    MANAGED,
    MANAGED_SERVICES,
    MULTI,
    ODD_KEYS,
    PREDEFINED,
    Ids,
    MultiRegionSet,
    alias_names,
    kind_of,
    multi_region_sets,
    number_of,
    slot,
)
from benchmarks.fake_aws.keys import STORES, Key, make_key
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.secrets import Secrets
from benchmarks.fake_aws.seeded_random import Draw, hexes

KEYS_HELD = 4096
"""Keys whose answers are kept: a reader asks several things of a key in a row."""
KEYS_OF_PLACES_HELD = 120_000
"""Account-regions are kept until they have more keys than this; see `Place.weight` for what else counts."""
ACCOUNTS_OF_BUCKETS_HELD = 256


class Place:
    """One account in one region on one night."""

    def __init__(self, world: World, account: Account, region: str, night: int) -> None:
        self.world = world
        self.parameters = world.parameters
        self.account = account
        self.account_id = account.id
        self.region = region
        self.night = night
        self.active = region in account.active
        self.closed = region in account.denied
        """Whether an SCP refuses everything here."""
        self.other = world.other_than(account.index)
        self._ids = Ids(self.parameters.seed, account.id, region)
        self._changes: dict[int, list[tuple[int, str]]] = {}
        self._families = {f.key_id: n for n, f in enumerate(world.families(account.index)) if region in f.regions}
        self.odd = self.parameters.adversarial and account.index == 1 and region == self.parameters.regions[0]
        """Whether the odd keys and resources are here."""
        self.slots = self._slots()
        self.weight = (500 if self.active else 50) + len(self.slots)
        """What it costs to keep, in keys: resources take room too."""

    def changes(self, at: int) -> list[tuple[int, str]]:
        """Night and kind of all that changed in this slot."""
        return self._changes.get(at, [])

    def multi(self, number: int) -> MultiRegionSet:
        """A set of multi-Region keys of the account."""
        return self.world.families(self.account.index)[number]

    @cached_property
    def key_ids(self) -> list[str]:
        """All keys, in the order in which they are listed."""
        return [self.key_id(at) for at in self.slots]

    @cached_property
    def customer(self) -> list[int]:
        """Slots of customer managed keys."""
        return [at for at in self.slots if kind_of(at) != MANAGED]

    @cached_property
    def aliases(self) -> list[dict[str, Any]]:
        """As kms:ListAliases tells them."""
        made = START - 300 * DAY
        found = [self._alias(name, at, made, moved) for at in self.customer for name, at, moved in self._names(at)]
        managed = {MANAGED_SERVICES[number_of(at)]: at for at in self.slots if kind_of(at) == MANAGED}
        found += [self._alias(f"alias/aws/{service}", at, made, None) for service, at in managed.items()]
        draw = Draw(self.parameters.seed, self.account_id, self.region, "predefined")
        unused = [service for service in PREDEFINED if service not in managed]
        for service in unused[: draw.between(*assumed.PREDEFINED_ALIASES)]:
            name = f"alias/aws/{service}"
            found.append({"AliasName": name, "AliasArn": f"arn:aws:kms:{self.region}:{self.account_id}:{name}"})
        return found

    @cached_property
    def stores(self) -> list[dict[str, Any]]:
        """As kms:DescribeCustomKeyStores tells them; the secret of the proxy is never told by AWS either."""
        if not self.odd:
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
        """As secretsmanager:ListSecrets tells them with IncludePlannedDeletion."""
        return Secrets(self).listed

    @cached_property
    def secrets_by_arn(self) -> dict[str, dict[str, Any]]:
        """The secrets again, to find one of them."""
        return {secret["ARN"]: secret for secret in self.secrets}

    @cached_property
    def databases(self) -> Databases:
        """What RDS has here."""
        return Databases(self)

    @cached_property
    def caches(self) -> Caches:
        """What ElastiCache has here."""
        return Caches(self)

    def key(self, key_id: str) -> Key | None:
        """A key by its id; None if there is none (any more)."""
        held, name = self.world.keys_held, (self.account_id, self.region, self.night, key_id)
        found = held.get(name)
        if found is not None:
            return found
        number = self._families.get(key_id)
        at = self._ids.decode(key_id) if number is None else slot(MULTI, number)
        if at is None or at not in self._alive:
            return None
        found = held[name] = make_key(self, at, key_id)
        if len(held) > KEYS_HELD:
            held.popitem(last=False)
        return found

    def key_id(self, at: int) -> str:
        """The id of the key in a slot, whether or not there is one."""
        return self.multi(number_of(at)).key_id if kind_of(at) == MULTI else self._ids.encode(at)

    def odd_key(self, name: str) -> str:
        """The id of an odd key (see `benchmarks.fake_aws.edge_cases`)."""
        return self.key_id(slot(ODD_KEYS, NUMBER[name]))

    def draw(self, *parts: object) -> Draw:
        """Numbers that depend on this account and region, not on the night."""
        return Draw(self.parameters.seed, self.account_id, self.region, *parts)

    @cached_property
    def customer_at_first(self) -> int:
        """How many plain customer keys there were before the first night."""
        return self._population()[0]

    @cached_property
    def _alive(self) -> set[int]:
        return set(self.slots)

    def _slots(self) -> list[int]:
        number, managed = self._population()
        customer = self._nights([slot(CUSTOMER, at) for at in range(number)])
        families = sorted(slot(MULTI, at) for at in self._families.values())
        odd = [slot(ODD_KEYS, at) for at in range(len(ODD))] if self.odd else []
        return [*customer, *families, *odd, *(slot(MANAGED, at) for at in range(managed))]

    def _population(self) -> tuple[int, int]:
        """Customer and AWS managed keys before the first night."""
        draw, parameters = self.draw("population"), self.parameters
        if not self.active:
            optional = self.region in parameters.opt_in
            return 0, 0 if optional or not draw.chance(assumed.UNUSED_WITH_MANAGED_KEYS) else draw.between(1, 2)
        managed = draw.lognormal(*assumed.MANAGED_KEYS)
        special = self.world.places_of_thousands.get((self.account_id, self.region))
        if special is not None:
            return special, managed
        if parameters.keys_per_place is not None:
            return parameters.keys_per_place, managed
        if parameters.dense:
            return draw.between(3, 6), min(managed, 6)
        if draw.chance(assumed.ACTIVE_WITHOUT_CUSTOMER_KEYS):
            return 0, managed
        return draw.lognormal(*assumed.CUSTOMER_KEYS), managed

    def _nights(self, alive: list[int]) -> list[int]:
        """What is left of the keys, and what was added, after all nights; fills in what changed."""
        rate = self.parameters.change_rate
        for night in range(1, self.night + 1):
            kept: list[int] = []
            made: list[int] = []
            for at in alive:
                draw = self.draw(at, "night", night)
                if not draw.chance(rate):
                    kept.append(at)
                    continue
                what = draw.weighted(assumed.KEY_CHANGES)
                before = self._changes.setdefault(at, [])
                scheduled = any(each == "scheduled" for _, each in before)
                if what == "created":
                    made.append(slot(CUSTOMER, number_of(at), night))
                elif what == "gone" and scheduled:
                    continue
                else:
                    # A key does not go at once: it is scheduled first.
                    before.append((night, "scheduled" if what == "gone" else what))
                kept.append(at)
            alive = [*kept, *dict.fromkeys(made)]
        return alive

    def _names(self, at: int) -> list[tuple[str, int, float | None]]:
        """Alias names of a slot, each with the slot that it points to now and when it moved there."""
        if kind_of(at) == ODD_KEYS:
            odd = ODD[number_of(at)]
            return [(f"alias/odd/{odd.name}" + (f"-{n}" if n else ""), at, None) for n in range(odd.aliases)]
        moves = [night for night, what in self.changes(at) if what == "alias"]
        names = alias_names(self.parameters.seed, self.account_id, self.region, at, least=1 if moves else 0)
        if not moves:
            return [(name, at, None) for name in names]
        target = self.customer[(self.customer.index(at) + len(moves)) % len(self.customer)]
        moved = START + (moves[-1] - 0.25) * DAY
        return [(names[0], target, moved), *((name, at, None) for name in names[1:])]

    def _alias(self, name: str, at: int, made: float, moved: float | None) -> dict[str, Any]:
        return {
            "AliasName": name,
            "AliasArn": f"arn:aws:kms:{self.region}:{self.account_id}:{name}",
            "TargetKeyId": self.key_id(at),
            "CreationDate": made,
            "LastUpdatedDate": made if moved is None else moved,
        }


class World:
    """The organization: accounts at once, the rest on demand."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.accounts = [make_account(parameters, index) for index in range(parameters.accounts)]
        self._places: OrderedDict[tuple[str, str, int], Place] = OrderedDict()
        self._buckets: OrderedDict[tuple[int, int], Buckets] = OrderedDict()
        self.keys_held: OrderedDict[tuple[str, str, int, str], Key] = OrderedDict()
        """The keys that were looked at last, of all places."""
        self._weight = 0
        self._families: dict[int, list[MultiRegionSet]] = {}
        self.places_of_thousands = self._thousands()

    @property
    def management(self) -> Account:
        """The management account, in which the reader has its own credentials."""
        return self.accounts[0]

    @property
    def giant(self) -> tuple[str, str]:
        """Account and region of the giant account-region."""
        return self.accounts[min(2, len(self.accounts) - 1)].id, self.parameters.regions[0]

    @property
    def access_key(self) -> str:
        """Of the user in the management account whose credentials a reader starts with."""
        return "AKIA" + hexes(16, self.parameters.seed, "access key").upper()

    @property
    def secret_key(self) -> str:
        """To `access_key`."""
        return hexes(40, self.parameters.seed, "secret key")

    @property
    def units(self) -> dict[str, str]:
        """Ids of the organizational units below the root, by name."""
        return UNITS

    def account(self, account_id: str) -> Account | None:
        """An account of the organization by its id."""
        index = self.parameters.account_index(account_id)
        return None if index is None else self.accounts[index]

    def other_than(self, index: int) -> str:
        """The id of another account, the same one every time."""
        others = len(self.accounts) - 1
        if not others:
            return self.accounts[0].id
        return self.accounts[
            (index + 1 + Draw(self.parameters.seed, "other", index).between(0, others - 1)) % (others + 1)
        ].id

    def families(self, index: int) -> list[MultiRegionSet]:
        """The multi-Region keys of an account."""
        found = self._families.get(index)
        if found is None:
            account = self.accounts[index]
            odd = self.parameters.adversarial and index == 1
            found = list(multi_region_sets(self.parameters, account.id, account.active, odd=odd))
            self._families[index] = found
        return found

    def place(self, account_id: str, region: str, night: int = 0) -> Place:
        """An account-region of the organization. Raises KeyError for an account or region that there is not."""
        at = (account_id, region, night)
        found = self._places.get(at)
        if found is None:
            account = self.account(account_id)
            if account is None or region not in {*self.parameters.regions, *self.parameters.opt_in}:
                raise KeyError(f"{account_id}/{region}")
            found = self._places[at] = Place(self, account, region, night)
            self._weight += found.weight
            while self._weight > KEYS_OF_PLACES_HELD and len(self._places) > 1:
                _, forgotten = self._places.popitem(last=False)
                self._weight -= forgotten.weight
        else:
            self._places.move_to_end(at)
        return found

    def buckets(self, account_id: str, night: int = 0) -> Buckets:
        """The buckets of an account, in all regions."""
        account = self.account(account_id)
        if account is None:
            raise KeyError(account_id)
        at = (account.index, night)
        found = self._buckets.get(at)
        if found is None:
            found = self._buckets[at] = Buckets(self, account, night)
            if len(self._buckets) > ACCOUNTS_OF_BUCKETS_HELD:
                self._buckets.popitem(last=False)
        return found

    def _thousands(self) -> dict[tuple[str, str], int]:
        """Customer keys of account-regions with a number of their own."""
        found: dict[tuple[str, str], int] = {}
        low, high = assumed.OUTLIER_KEYS
        for number in range(self.parameters.outliers):
            draw = Draw(self.parameters.seed, "outlier", number)
            account = draw.pick(self.accounts)
            pareto = low * math.pow(1 - draw.unit(), -1 / 1.1)
            found[account.id, account.active[0]] = min(high, int(pareto))
        if self.parameters.giant_keys:
            found[self.giant] = self.parameters.giant_keys
        return found
