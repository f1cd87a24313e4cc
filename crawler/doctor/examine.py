"""Examines what a crawl needs from AWS: credentials, clock, organization, roles, regions, actions and key policies."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from crawler import discovery as org
from crawler.aws.client import AwsClient
from crawler.aws.credentials import ASSUME_ROLE, Identity
from crawler.aws.endpoints import known_regions
from crawler.aws.errors import AwsError
from crawler.collector import for_each
from crawler.crawl import identify
from crawler.doctor.explain import explain
from crawler.doctor.probe import AccountProbe, Failure
from crawler.iam_policies import member_actions
from crawler.progress import Progress
from crawler.worker import Worker, WorkerConfig
from models.diagnosis import Check, Status, from_error, named, ok, problem
from models.errors import UserError
from models.settings import Settings

CONCURRENT_ACCOUNTS = 32
MAX_SKEW = 60.0
"""Seconds by which the local clock may differ from that of AWS. AWS rejects signatures that are five minutes off."""
MAX_ATTEMPTS = 3
CALL_DEADLINE = 60
"""Seconds. A person waits for the result, so calls are repeated less often than in a crawl."""


async def examine(settings: Settings, sample: int | None, max_keys: int) -> list[Check]:
    """Return the checks of everything that a crawl calls; with ``sample``, of this number of accounts. Nothing is written."""
    limits = {"max_attempts": min(settings.crawl.max_attempts, MAX_ATTEMPTS), "call_deadline": CALL_DEADLINE}
    settings = settings.model_copy(update={"crawl": settings.crawl.model_copy(update=limits)})
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
            return await _examine(worker, settings, sample, max_keys, progress)
    finally:
        worker.client.close()


async def _examine(
    worker: Worker, settings: Settings, sample: int | None, max_keys: int, progress: Progress
) -> list[Check]:
    try:
        identity = await identify(worker.roles, settings.aws.region)
    except UserError as error:
        return [from_error("credentials", error, fatal=True), *_clock(worker.client)]
    checks = [ok("credentials", identity.arn), *_clock(worker.client)]
    try:
        organization, regions = await org.read_organization(worker.client, worker.roles, identity, settings)
    except UserError as error:
        return [*checks, from_error("organization", error, fatal=True)]
    hub = settings.organization.reader_role or identity.arn
    failures = [
        Failure(hub.split(":")[4], "global", operation, subject, error, hub)
        for operation, subject, error in organization.gaps
    ]
    checks += explain(failures, identity, settings)
    crawled = [account for account in organization.accounts if account.crawled]
    checks += _filters(organization, settings)
    if not crawled:
        message = f"none of {len(organization.accounts):,} accounts would be crawled"
        fix = "correct organization.include and organization.exclude"
        return [*checks, problem("organization", message, fix, fatal=True)]
    chosen = crawled
    if sample is not None and sample < len(crawled):
        chosen = random.Random(0).sample(crawled, sample)  # noqa: S311 - a sample, not cryptography
    listed = f"{len(organization.accounts):,} accounts, {len(crawled):,} to crawl"
    checks.append(ok("organization", listed if chosen is crawled else f"{listed}, {len(chosen):,} sampled"))
    progress.accounts = len(chosen)
    accounts = _Accounts(worker, regions, identity, settings, max_keys)

    async def examine_account(account: org.FoundAccount) -> None:
        await accounts.examine(account.account_id)
        progress.accounts_done += 1

    await for_each(chosen, examine_account, CONCURRENT_ACCOUNTS)
    problems = explain(accounts.failures, identity, settings)
    return [*checks, *accounts.summaries(len(chosen), problems), *accounts.check_regions(), *problems]


@dataclass(slots=True)
class _Accounts:
    """Examines accounts, and has what was found in all of them."""

    worker: Worker
    regions: org.Regions
    identity: Identity
    settings: Settings
    max_keys: int
    failures: list[Failure] = field(default_factory=list)
    by_region: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Accounts by region and by selection: crawled, excluded, disabled."""
    entered: int = 0
    actions: set[str] = field(default_factory=set)
    keys: int = 0
    more_keys: int = 0

    async def examine(self, account_id: str) -> None:
        """Try everything in one account."""
        worker, crawl, home = self.worker, self.settings.crawl, self.settings.aws.region
        provider = await worker.provider(account_id)
        arn = getattr(provider, "arn", self.identity.arn)
        try:
            await provider.credentials()
        except AwsError as error:
            self.failures.append(Failure(account_id, "*", ASSUME_ROLE, arn, error, self.identity.arn))
            return
        self.entered += 1
        probe = AccountProbe(worker.client, provider, arn, self.identity.partition, crawl, self.max_keys)
        probe.tried.add(org.DESCRIBE_REGIONS)
        try:
            await worker.client.call(provider, org.DESCRIBE_REGIONS, home, org.DESCRIBE_REGIONS.params)
        except AwsError as error:
            self.failures.append(Failure(account_id, home, org.DESCRIBE_REGIONS, "", error, arn))
        try:
            account_regions = await self.regions.of(account_id, provider)
        except AwsError:
            # It failed above, and nothing else lists the regions.
            return
        for region in account_regions:
            self.by_region.setdefault(region.region, {}).setdefault(region.selection, set()).add(account_id)
        crawled = [region.region for region in account_regions if region.selection == "crawled"]
        await probe.account(worker.resource_types, crawled, home)
        self.failures += probe.failures
        self.actions |= {operation.iam_action for operation in probe.tried}
        self.keys += probe.keys
        self.more_keys += probe.more_keys
        worker.client.drop_account(account_id)

    def check_regions(self) -> Iterable[Check]:
        """The regions in the settings that AWS does not list, or that are enabled in no account."""
        settings = self.settings.regions
        listed = [("include", region) for region in settings.include]
        listed += [("exclude", region) for region in settings.exclude]
        for side, region in listed:
            if not self.by_region or region not in known_regions():
                continue  # nothing could be listed, or the check of the settings names it
            if region not in self.by_region:
                yield problem(
                    "region",
                    f"regions.{side} names {region}, which AWS lists in no account",
                    f"correct or remove it in regions.{side}; `aws account list-regions` lists the regions",
                    region,
                )
            elif side == "include" and not self.by_region[region].get("crawled"):
                accounts = tuple(sorted(self.by_region[region].get("disabled", ())))
                yield Check(
                    "region",
                    Status.PROBLEM,
                    f"regions.include names {region}, which is enabled in none of {len(accounts)} accounts",
                    f"aws account enable-region --region-name {region} --account-id {accounts[0]}, for each account that "
                    "uses it; or remove it from regions.include",
                    accounts=accounts,
                    subjects=(region,),
                )

    def summaries(self, accounts: int, problems: Sequence[Check]) -> Iterable[Check]:
        """The lines about what works in all of these accounts."""
        broken = {check.name for check in problems}
        declared = set(member_actions(self.worker.resource_types, self.settings.crawl))
        if "role" not in broken:
            yield ok("role", f"can be assumed in all {accounts:,} accounts")
        if "action" not in broken and self.entered:
            untried = sorted(declared - self.actions)
            rest = f"; nothing was found on which to try {', '.join(untried)}" if untried else ""
            yield ok(
                "action", f"{len(declared) - len(untried)} of {len(declared)} actions were tried, each works{rest}"
            )
        crawled = sum(bool(selections.get("crawled")) for selections in self.by_region.values())
        if "region" not in broken and crawled:
            yield ok("region", f"{crawled} regions to crawl")
        if "key policy" not in broken and self.entered:
            more = f"; {self.more_keys} account-regions have more (--keys)" if self.more_keys else ""
            yield ok("key policy", f"{self.keys:,} keys were tried, each can be read{more}")


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
    for side, filters in (("include", settings.organization.include), ("exclude", settings.organization.exclude)):
        for name, listed, known, missing in (
            ("accounts", filters.accounts, accounts, "which the organization does not have"),
            # A unit without accounts, even below it, is as good as unknown: the filter has no effect.
            ("ous", filters.ous, units, "in which the organization has no account"),
        ):
            setting = f"organization.{side}.{name}"
            if unknown := sorted(set(listed) - known):
                message = f"{setting} names {named(unknown)}, {missing}"
                yield problem("settings", message, f"correct or remove it in {setting}", *unknown)
