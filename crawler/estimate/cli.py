"""The command that estimates a crawl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import CONFIG, format_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawler.estimate.model import Estimate
    from crawler.estimate.survey import Survey
    from crawler.spec import ResourceType
    from models.settings import Settings
    from models.settings.crawl import CrawlSettings

FORMAT = "kmsledger.estimate/1"


@click.command()
@CONFIG
@click.option(
    "--accounts", type=click.IntRange(1, 100_000), metavar="N", help="Number of accounts, instead of asking AWS."
)
@click.option(
    "--regions", type=click.IntRange(1, 100), metavar="N", help="Enabled regions of each account. [default: 17]"
)
@click.option("--keys", type=click.IntRange(0, 10_000_000), metavar="N", help="Customer managed keys of all accounts.")
@click.option(
    "--sample",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    metavar="N",
    help="Accounts whose keys and resources are counted, if the ledger has no run.",
)
@format_option("table", "json")
def estimate(
    *, config_path: Path, accounts: int | None, regions: int | None, keys: int | None, sample: int, output_format: str
) -> None:
    """Estimate the calls, duration, use of quotas and API cost of a crawl, before it runs.

    The size of the organization is that of the last full run in the ledger. Without one, the accounts are listed and the keys and
    resources of some are counted, which only reads; with --accounts and --keys, nothing is called. All results are estimates:
    ranges and assumptions are printed.

    JSON has `format`, `basis`, `size`, `notes`, `runs` (first and later: calls, also by operation, seconds, and cost in USD, as
    low, expected and high) and `last_run`.
    """
    import asyncio

    from crawler.estimate.survey import from_numbers, from_sample
    from crawler.iam_policies import configured_types
    from models.settings import load

    settings = load(config_path)
    kinds = configured_types(settings.crawl.resource_types)
    if accounts is None and regions is not None:
        raise click.UsageError("--regions needs --accounts")
    if (accounts is None) != (keys is None):
        raise click.UsageError("--accounts and --keys belong together: without them, AWS or the ledger is asked")
    if accounts is not None and keys is not None:
        survey = from_numbers(accounts, regions or 17, keys)
    else:
        survey = _ledger_survey(settings, kinds) or asyncio.run(from_sample(settings, sample))
    document = _document(survey, settings, kinds)
    if output_format == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(_text(document, settings))


def _ledger_survey(settings: Settings, kinds: Sequence[ResourceType]) -> Survey | None:
    from sqlalchemy import make_url

    from crawler.estimate.survey import from_ledger
    from models.store.engine import check, opened

    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    with opened(settings.database, must_exist=True) as engine:
        check(engine)
        return from_ledger(engine, kinds)


def _document(survey: Survey, settings: Settings, kinds: Sequence[ResourceType]) -> dict[str, Any]:
    from crawler.estimate.model import duration, estimate, monthly_cost, scaled

    sizes = {"low": scaled(survey.size, survey.low), "expected": survey.size, "high": scaled(survey.size, survey.high)}
    runs = {}
    for name, first in (("first", True), ("later", False)):
        of_run: dict[str, Estimate] = {
            label: estimate(size, kinds, settings, first=first) for label, size in sizes.items()
        }
        shortest, longest = duration(of_run["low"], settings.crawl)[0], duration(of_run["high"], settings.crawl)[1]
        runs[name] = {
            "calls": {label: round(run.total) for label, run in of_run.items()},
            "calls_by_operation": {
                operation: round(count)
                for operation, count in sorted(of_run["expected"].calls.items(), key=lambda pair: -pair[1])
            },
            "seconds": {"low": round(shortest), "high": round(longest)},
            "bound": of_run["expected"].bound,
            "cost_usd": {label: round(run.cost, 4) for label, run in of_run.items()},
            "cost_usd_per_month": [
                round(monthly_cost(of_run["low"])[0], 2),
                round(monthly_cost(of_run["high"])[1], 2),
            ],
            "last_use_seconds": round(of_run["expected"].last_use_seconds),
        }
    size = survey.size
    return {
        "format": FORMAT,
        "basis": survey.basis,
        "size": {
            "accounts": size.accounts,
            "account_regions": size.account_regions,
            "active_account_regions": size.active_regions,
            "customer_managed_keys": {label: round(each.keys) for label, each in sizes.items()},
            "aws_managed_keys": round(size.aws_keys),
            "largest_account_region_keys": round(size.largest_region_keys),
            "resources": {name: round(count) for name, count in sorted(size.resources.items())},
        },
        "notes": list(survey.notes),
        "runs": runs,
        "last_run": None
        if survey.last_calls is None
        else {"calls": survey.last_calls, "seconds": survey.last_seconds and round(survey.last_seconds)},
    }


def _text(document: dict[str, Any], settings: Settings) -> str:
    from crawler.estimate.model import KMS_FREE_PER_MONTH
    from models.safe_text import printable

    size, runs, crawl = document["size"], document["runs"], settings.crawl
    keys, largest = _range(size["customer_managed_keys"]), size["largest_account_region_keys"]
    places = f"{size['accounts']:,} accounts, {size['account_regions']:,} account-regions"
    customer = f"{keys} customer managed keys, at most {largest:,} in one account-region"
    lines = [
        f"Estimate, not a measurement. Size: {document['basis']}.",
        f"  {places}, {customer}, {size['aws_managed_keys']:,} AWS managed keys",
    ]
    for name, title in (("first", "First run"), ("later", "Each later run")):
        run = runs[name]
        seconds, cost = run["seconds"], run["cost_usd"]
        most = ", ".join(f"{operation} {count:,}" for operation, count in list(run["calls_by_operation"].items())[:4])
        lines += [
            f"{title}:",
            f"  calls     {_range(run['calls'])} ({most} ...)",
            f"  duration  {_words(seconds['low'])} to {_words(seconds['high'])}, decided by {run['bound']}",
            f"  API cost  {_dollars(cost['low'], cost['high'])}",
        ]
    low, high = runs["later"]["cost_usd_per_month"]
    free = f"{KMS_FREE_PER_MONTH:,} free requests of KMS"
    lines.append(f"A month of daily runs: {_dollars(low, high)}, the least if nothing else uses the {free}")
    share = f"{crawl.quota_share_percent} % of each request quota of an account and region (crawl.quota_share_percent)"
    lines.append(f"Quotas: at most {share}")
    if last := document["last_run"]:
        took = f" in {_words(last['seconds'])}" if last["seconds"] is not None else ""
        lines.append(f"The last full run made {last['calls']:,} calls{took}.")
    lines.append("Assumptions:")
    return "\n".join(map(printable, [*lines, *(f"  * {text}" for text in _assumptions(document, crawl))]))


def _assumptions(document: dict[str, Any], crawl: CrawlSettings) -> list[str]:
    last_use = (
        f"the last use of keys is polled at {5 * crawl.quota_share_percent / 100:g} calls a second in an account and region; a "
        f"run waits for it at most {crawl.last_use.max_minutes} minutes after everything else"
    )
    prices = (
        "every request to KMS (0.03 USD per 10,000), Secrets Manager (0.05 USD per 10,000) and S3 (0.0004 USD per 1,000, "
        "listings of buckets 0.005) is charged: prices of aws.amazon.com/kms/pricing, /secrets-manager/pricing and "
        "/s3/pricing; other services do not charge for these calls"
    )
    return [
        *document["notes"],
        "a call takes 100 ms and 0.5 ms of processor time; retries and throttling make a run up to three times as long",
        "listings have one page, except that of accounts: further pages of grants are not counted",
        last_use if crawl.last_use.enabled else "the last use of keys is not polled (crawl.last_use.enabled)",
        prices,
        "CloudTrail records the calls; only the first trail of an account is free",
    ]


def _range(values: dict[str, float]) -> str:
    low, expected, high = (values[name] for name in ("low", "expected", "high"))
    return f"{expected:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f} (expected {expected:,.0f})"


def _dollars(low: float, high: float) -> str:
    if high < 0.01:
        return "less than 0.01 USD"
    return f"{low:.2f} to {high:.2f} USD" if f"{low:.2f}" != f"{high:.2f}" else f"{high:.2f} USD"


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
