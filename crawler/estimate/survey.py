"""Finds out how large an organization is: from the ledger, from a sample of its accounts, or from given numbers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Engine, func, select

from crawler import discovery as org
from crawler.aws.client import CredentialProvider, parameters
from crawler.aws.errors import AwsError
from crawler.aws.response_validation import items_of
from crawler.crawl import identify
from crawler.estimate.model import Size, per_item
from crawler.services.kms import LIST_ALIASES, LIST_KEYS
from crawler.spec import GLOBAL, Operation, ResourceType, Scope, Subject
from crawler.worker import Worker, WorkerConfig
from crawler.writer import ORGANIZATION, WHOLE_ACCOUNT
from models.settings import Settings
from models.store.engine import translate_errors
from models.tables.keys import Key, KeyMetadata
from models.tables.resources import Resource
from models.tables.runs import Outcome, Run, RunStatus, ScopeCoverage

LEAST_SPREAD = 1.5
"""The factor by which the numbers may at least differ from those that a sample suggests."""
MAX_ITEMS = 20_000
"""Items of a listing that are counted; the rest of a longer one is not."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A size, the range of sizes that the survey allows, and where it is from."""

    size: Size
    low: float
    """The factor for the smallest number of keys and resources that is likely; 1 if they are known."""
    high: float
    basis: str
    """Where the numbers are from, as a clause."""
    notes: tuple[str, ...] = ()
    last_calls: int | None = None
    """The calls of the last full run."""
    last_seconds: float | None = None


@dataclass(slots=True)
class _Counts:
    """The numbers of one account."""

    regions: int = 0
    active: int = 0
    keys: int = 0
    aws_keys: int = 0
    largest: int = 0
    resources: dict[str, int] = field(default_factory=dict)


def from_ledger(engine: Engine, kinds: Sequence[ResourceType]) -> Survey | None:
    """Return the numbers of the last full run that ended; None if there is none."""
    key, metadata, resource = Key.table(), KeyMetadata.table(), Resource.table()
    ended = (str(RunStatus.COMPLETE), str(RunStatus.PARTIAL))
    last = select(Run).where(Run.status.in_(ended), Run.only_accounts.is_(None), Run.only_regions.is_(None))
    is_open = key.c.valid_to.is_(None)
    described = (metadata.c.key_arn == key.c.key_arn) & metadata.c.valid_to.is_(None)
    by_manager = (
        select(key.c.account_id, key.c.region, metadata.c.manager, func.count())
        .select_from(key.outerjoin(metadata, described))
        .where(is_open)
        .group_by(key.c.account_id, key.c.region, metadata.c.manager)
    )
    types = select(resource.c.resource_type, func.count()).where(resource.c.valid_to.is_(None))
    places = select(resource.c.account_id, resource.c.listing_region).where(resource.c.valid_to.is_(None)).distinct()
    with translate_errors(engine), engine.connect() as connection:
        run = connection.execute(last.with_only_columns(Run.__table__).order_by(Run.run_id.desc()).limit(1)).first()
        if run is None:
            return None
        scopes = connection.execute(
            select(ScopeCoverage.account_id, ScopeCoverage.region).where(
                ScopeCoverage.run_id == run.run_id,
                ScopeCoverage.outcome.in_((str(Outcome.COMPLETE), str(Outcome.PARTIAL), str(Outcome.FAILED))),
            )
        ).all()
        keys = connection.execute(by_manager).all()
        resources: dict[str, int] = dict(connection.execute(types.group_by(resource.c.resource_type)).all())
        active = {(account, region) for account, region in connection.execute(places)}
    customer: Counter[tuple[str, str]] = Counter()
    aws_keys = 0
    for account_id, region, manager, count in keys:
        active.add((account_id, region))
        if manager == "AWS":
            aws_keys += count
        else:
            customer[account_id, region] += count
    regional = {tuple(scope) for scope in scopes if scope.region not in {WHOLE_ACCOUNT, GLOBAL, ORGANIZATION}}
    unread = sum(scope.region == WHOLE_ACCOUNT for scope in scopes)
    size = Size(
        accounts=len({scope.account_id for scope in scopes if scope.region != ORGANIZATION}),
        account_regions=len(regional),
        keys=sum(customer.values()),
        aws_keys=aws_keys,
        largest_region_keys=max(customer.values(), default=0),
        resources={kind.name: resources[kind.name] for kind in kinds if kind.name in resources},
        active_regions=len(active & regional),
    )
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    notes = (f"{unread} accounts could not be entered: they are not counted",) if unread else ()
    return Survey(size, 1, 1, f"the ledger, as run {run.run_id} left it", notes, run.calls, seconds)


def from_numbers(accounts: int, regions: int, keys: int) -> Survey:
    """Return the numbers that the caller gave: accounts, enabled regions of each, and customer managed keys of all."""
    size = Size(accounts, accounts * regions, keys, 0, keys)
    notes = (
        "all keys are in one account-region: the duration is the longest that this number of keys can cause",
        "secrets, buckets, other resources and AWS managed keys are not counted",
    )
    return Survey(size, 1, 1, "given numbers", notes)


async def from_sample(settings: Settings, sample: int) -> Survey:
    """Count the accounts and organizational units, and the keys and resources of some accounts. Raises UserError."""
    worker = Worker(WorkerConfig(settings.aws, settings.role, settings.crawl, settings.regions))
    try:
        identity = await identify(worker.roles, settings.aws.region)
        organization, regions = await org.read_organization(worker.client, worker.roles, identity, settings)
        crawled = [account.account_id for account in organization.accounts if account.crawled]
        chosen = random.Random(0).sample(crawled, min(sample, len(crawled)))  # noqa: S311 - a sample, not cryptography
        results = await asyncio.gather(
            *(_count(worker, regions, account, settings, identity.partition) for account in chosen)
        )
    finally:
        worker.client.close()
    units = {unit for account in organization.accounts for unit in account.ou_ids}
    counted = [counts for counts in results if counts is not None]
    return _extrapolated(counted, len(crawled), len(chosen), len(units))


def _extrapolated(counted: Sequence[_Counts], accounts: int, chosen: int, units: int) -> Survey:
    """Scale the counts of some accounts to all accounts."""
    if not counted:
        size = Size(accounts, 0, 0, 0, 0, units=units)
        note = "no sampled account could be entered: run `kmsledger doctor`; the numbers cover the organization alone"
        return Survey(size, 1, 1, f"{accounts} accounts, of which {chosen} were sampled", (note,))
    factor = accounts / len(counted)
    names = {name for counts in counted for name in counts.resources}
    size = Size(
        accounts=accounts,
        account_regions=round(factor * sum(counts.regions for counts in counted)),
        keys=factor * sum(counts.keys for counts in counted),
        aws_keys=factor * sum(counts.aws_keys for counts in counted),
        largest_region_keys=max(counts.largest for counts in counted),
        resources={name: factor * sum(counts.resources.get(name, 0) for counts in counted) for name in names},
        units=units,
        active_regions=round(factor * sum(counts.active for counts in counted)),
    )
    basis = f"{accounts} accounts, {len(counted)} of them counted"
    notes: list[str] = []
    if len(counted) < chosen:
        notes.append(
            f"{chosen - len(counted)} of {chosen} sampled accounts could not be entered: run `kmsledger doctor`"
        )
    if len(counted) == accounts:
        return Survey(size, 1, 1, basis, tuple(notes))
    # Keys are distributed unevenly: the smallest and the largest sampled account stand for all others.
    weights = [counts.keys + sum(counts.resources.values()) for counts in counted]
    mean = max(sum(weights) / len(weights), 1e-9)
    rest = 1 - len(counted) / accounts
    low, high = (1 + rest * (extreme / mean - 1) for extreme in (min(weights), max(weights)))
    notes.append("keys are distributed unevenly: one large account that was not sampled can exceed the range")
    return Survey(size, min(low, 1 / LEAST_SPREAD), max(high, LEAST_SPREAD), basis, tuple(notes))


async def _count(
    worker: Worker, regions: org.Regions, account_id: str, settings: Settings, partition: str
) -> _Counts | None:
    """Count what an account has; None if it cannot be entered."""
    provider = await worker.provider(account_id)
    try:
        await provider.credentials()
        listed = await regions.of(account_id, provider)
    except AwsError:
        return None
    counts = _Counts()
    names = [region.region for region in listed if region.selection == "crawled"]
    counts.regions = len(names)
    kinds = [kind for kind in worker.resource_types if per_item(kind, settings.crawl)]
    items = partial(_items, worker, provider)
    await asyncio.gather(*(_count_region(items, kinds, Scope(account_id, name, partition), counts) for name in names))
    home = Scope(account_id, settings.aws.region, partition)
    for kind in kinds:
        if not kind.regional:
            counts.resources[kind.name] = len(await items(kind.listing, home))
    return counts


async def _count_region(
    items: Callable[[Operation, Scope], Awaitable[list[Mapping[str, Any]]]],
    kinds: Sequence[ResourceType],
    scope: Scope,
    counts: _Counts,
) -> None:
    found = keys = len(await items(LIST_KEYS, scope))
    managed = min(keys, sum(map(_is_aws_managed, await items(LIST_ALIASES, scope)))) if keys else 0
    for kind in kinds:
        if kind.regional:
            number = len(await items(kind.listing, scope))
            counts.resources[kind.name] = counts.resources.get(kind.name, 0) + number
            found += number
    counts.active += bool(found)
    counts.keys += keys - managed
    counts.aws_keys += managed
    counts.largest = max(counts.largest, keys - managed)


def _is_aws_managed(alias: Mapping[str, Any]) -> bool:
    return alias["AliasName"].startswith("alias/aws/") and bool(alias.get("TargetKeyId"))


async def _items(
    worker: Worker, provider: CredentialProvider, operation: Operation, scope: Scope
) -> list[Mapping[str, Any]]:
    """The items of a listing, or those read before it failed: the crawl has a gap there, too."""
    items: list[Mapping[str, Any]] = []
    params = parameters(operation, Subject(scope, scope.region))
    try:
        async with aclosing(worker.client.pages(provider, operation, scope.region, params)) as pages:
            async for page in pages:
                items += items_of(operation, page)
                if len(items) > MAX_ITEMS:
                    break
    except AwsError:
        pass
    return items
