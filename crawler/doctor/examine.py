"""Examines what a crawl needs from AWS: credentials, clock, organization, roles, regions, actions and key policies."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from crawler import discovery as org
from crawler.aws.client import AwsClient, CredentialProvider
from crawler.aws.credentials import ASSUME_ROLE, Identity
from crawler.aws.endpoints import known_regions
from crawler.aws.errors import AwsError
from crawler.crawl import identify
from crawler.doctor.explain import explain
from crawler.doctor.probe import AccountProbe, Failure
from crawler.iam_policies import member_actions
from crawler.progress import Progress
from crawler.worker import Worker, WorkerConfig
from models.diagnosis import Check, Status, from_error, named, ok, problem
from models.errors import UserError
from models.settings import AccountFilter, Settings

CONCURRENT_ACCOUNTS = 32
MAX_SKEW = 60.0
"""Seconds by which the local clock may differ from that of AWS. AWS rejects signatures that are five minutes off."""
MAX_ATTEMPTS = 3
CALL_DEADLINE = 60
"""Seconds. A person waits for the result, so calls are repeated less often than in a crawl."""


@dataclass(slots=True)
class _Findings:
    """What the examination of the accounts has found."""

    failures: list[Failure] = field(default_factory=list)
    regions: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Accounts by region and by selection: crawled, excluded, disabled."""
    entered: int = 0
    actions: set[str] = field(default_factory=set)
    keys: int = 0
    more_keys: int = 0


async def examine(settings: Settings, sample: int | None, max_keys: int) -> list[Check]:
    """Return the checks of everything that a crawl calls; with ``sample``, of this number of accounts. Nothing is written."""
    limits = {"max_attempts": min(settings.crawl.max_attempts, MAX_ATTEMPTS), "call_deadline": CALL_DEADLINE}
    settings = settings.model_copy(update={"crawl": settings.crawl.model_copy(update=limits)})
    checks: list[Check] = []
    try:
        worker = Worker(WorkerConfig(settings.aws, settings.role, settings.crawl, settings.regions))
    except UserError as error:
        return [from_error("credentials", error, fatal=True)]
    progress = Progress()
    progress.client = worker.client
    progress.waiting_for = lambda: "trying everything once"
    try:
        # Not in a log: the result is all that matters there.
        with progress if sys.stderr.isatty() else nullcontext():
            await _examine(worker, settings, sample, max_keys, checks, progress)
    finally:
        worker.client.close()
    return checks


async def _examine(  # noqa: PLR0917 - what is examined, and where the results go
    worker: Worker,
    settings: Settings,
    sample: int | None,
    max_keys: int,
    checks: list[Check],
    progress: Progress,
) -> None:
    try:
        identity = await identify(worker.roles, settings.aws.region)
    except UserError as error:
        checks += [from_error("credentials", error, fatal=True), *_clock(worker.client)]
        return
    checks += [ok("credentials", identity.arn), *_clock(worker.client)]
    hub: CredentialProvider = worker.roles.own
    try:
        if settings.organization.reader_role:
            hub = await worker.roles.reader(settings.organization.reader_role)
        organization = await org.discover(worker.client, hub, identity, settings.organization, settings.aws.region)
    except UserError as error:
        checks.append(from_error("organization", error, fatal=True))
        return
    hub_identity = settings.organization.reader_role or identity.arn
    failures = [
        Failure(hub.account_id, "global", op, subject, error, hub_identity) for op, subject, error in organization.gaps
    ]
    checks += explain(failures, identity, settings)
    crawled = [account for account in organization.accounts if account.crawled]
    checks += _filters(organization, settings)
    if not crawled:
        checks.append(
            problem(
                "organization",
                f"none of {len(organization.accounts):,} accounts would be crawled",
                "correct organization.include and organization.exclude",
                fatal=True,
            )
        )
        return
    chosen = crawled
    if sample is not None and sample < len(crawled):
        chosen = random.Random(0).sample(crawled, sample)  # noqa: S311 - a sample, not cryptography
    listed = f"{len(organization.accounts):,} accounts, {len(crawled):,} to crawl"
    checks.append(ok("organization", listed if chosen is crawled else f"{listed}, {len(chosen):,} sampled"))
    regions = org.Regions(worker.client, hub, settings.regions, settings.aws.region, organization.management_account_id)
    findings = _Findings()
    progress.accounts = len(chosen)
    remaining = iter(chosen)

    async def examine_accounts() -> None:
        for account in remaining:
            await _account(worker, regions, identity, account.account_id, settings, max_keys, findings)
            progress.accounts_done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONCURRENT_ACCOUNTS, len(chosen))):
            group.create_task(examine_accounts())
    problems = explain(findings.failures, identity, settings)
    declared = set(member_actions(worker.resource_types, settings.crawl))
    checks += _summaries(findings, chosen, problems, declared)
    checks += [*_regions(findings, settings), *problems]


async def _account(  # noqa: PLR0917 - the collaborators of an examination
    worker: Worker,
    regions: org.Regions,
    identity: Identity,
    account_id: str,
    settings: Settings,
    max_keys: int,
    findings: _Findings,
) -> None:
    provider = await worker.provider(account_id)
    arn = getattr(provider, "arn", identity.arn)
    home = settings.aws.region
    try:
        await provider.credentials()
    except AwsError as error:
        findings.failures.append(Failure(account_id, "*", ASSUME_ROLE, arn, error, identity.arn))
        return
    findings.entered += 1
    probe = AccountProbe(worker.client, provider, arn, identity.partition, settings.crawl, max_keys)
    probe.tried.add(org.DESCRIBE_REGIONS)
    try:
        await worker.client.call(provider, org.DESCRIBE_REGIONS, home, org.DESCRIBE_REGIONS.params)
    except AwsError as error:
        findings.failures.append(Failure(account_id, home, org.DESCRIBE_REGIONS, "", error, arn))
    try:
        account_regions = await regions.of(account_id, provider)
    except AwsError:
        # It failed above, and nothing else lists the regions.
        return
    for region in account_regions:
        findings.regions.setdefault(region.region, {}).setdefault(region.selection, set()).add(account_id)
    crawled = [region.region for region in account_regions if region.selection == "crawled"]
    await probe.account(worker.resource_types, crawled, home)
    findings.failures += probe.failures
    findings.actions |= {operation.iam_action for operation in probe.tried}
    findings.keys += probe.keys
    findings.more_keys += probe.more_keys
    worker.client.drop_account(account_id)


def _clock(client: AwsClient) -> list[Check]:
    offset = client.clock_offset
    if offset is None:
        return []
    if abs(offset) <= MAX_SKEW:
        return [ok("clock", f"{abs(offset):.0f} s off the clock of AWS")]
    direction = "behind" if offset > 0 else "ahead of"
    return [
        problem(
            "clock",
            f"this machine is {abs(offset):,.0f} s {direction} AWS, which rejects requests that are 300 s off",
            "synchronize the clock: timedatectl set-ntp true",
        )
    ]


def _filters(organization: org.Organization, settings: Settings) -> Iterable[Check]:
    """The accounts and organizational units in the settings that the organization does not have."""
    accounts = {account.account_id for account in organization.accounts}
    units = {unit for account in organization.accounts for unit in account.ou_ids}
    sides: tuple[tuple[str, AccountFilter], ...] = (
        ("include", settings.organization.include),
        ("exclude", settings.organization.exclude),
    )
    for side, filters in sides:
        if unknown := sorted(set(filters.accounts) - accounts):
            yield problem(
                "settings",
                f"organization.{side}.accounts names {named(unknown)}, which the organization does not have",
                f"correct or remove it in organization.{side}.accounts",
                *unknown,
            )
        # A unit without accounts, even below it, is as good as unknown: the filter has no effect.
        if unknown := sorted(set(filters.ous) - units):
            yield problem(
                "settings",
                f"organization.{side}.ous names {named(unknown)}, in which the organization has no account",
                f"correct or remove it in organization.{side}.ous",
                *unknown,
            )


def _regions(findings: _Findings, settings: Settings) -> Iterable[Check]:
    """The regions in the settings that AWS does not list, or that are enabled in no account."""
    if not findings.regions:
        return
    for side, listed in (("include", settings.regions.include), ("exclude", settings.regions.exclude)):
        for region in listed:
            if region not in known_regions():
                continue  # the check of the settings names it
            if region not in findings.regions:
                yield problem(
                    "region",
                    f"regions.{side} names {region}, which AWS lists in no account",
                    f"correct or remove it in regions.{side}; `aws account list-regions` lists the regions",
                    region,
                )
            elif side == "include" and not findings.regions[region].get("crawled"):
                accounts = tuple(sorted(findings.regions[region].get("disabled", ())))
                yield Check(
                    "region",
                    Status.PROBLEM,
                    f"regions.include names {region}, which is enabled in none of {len(accounts)} accounts",
                    f"aws account enable-region --region-name {region} --account-id {accounts[0]}, for each account that "
                    "uses it; or remove it from regions.include",
                    accounts=accounts,
                    subjects=(region,),
                )


def _summaries(
    findings: _Findings, chosen: Sequence[org.FoundAccount], problems: Sequence[Check], declared: set[str]
) -> Iterable[Check]:
    """The lines about what works."""
    broken = {check.name for check in problems}
    if "role" not in broken:
        yield ok("role", f"can be assumed in all {len(chosen):,} accounts")
    if "action" not in broken and findings.entered:
        untried = sorted(declared - findings.actions)
        rest = f"; nothing was found on which to try {', '.join(untried)}" if untried else ""
        yield ok("action", f"{len(declared) - len(untried)} of {len(declared)} actions were tried, each works{rest}")
    crawled = sum(bool(selections.get("crawled")) for selections in findings.regions.values())
    if "region" not in broken and crawled:
        yield ok("region", f"{crawled} regions to crawl")
    if "key policy" not in broken and findings.entered:
        more = f"; {findings.more_keys} account-regions have more (--keys)" if findings.more_keys else ""
        yield ok("key policy", f"{findings.keys:,} keys were tried, each can be read{more}")
