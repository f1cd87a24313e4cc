"""The settings of the crawl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models.settings.types import Flag, Group, Text, matching, whole

EXECUTOR = r"processes|dask://(local|[A-Za-z0-9._-]{1,253}:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5})"
EXECUTOR_EXPECTED = "processes, dask://HOST:PORT or dask://local"


class LastUseSettings(Group):
    """Polling of kms:GetKeyLastUsage, which AWS limits to five calls a second in each account and region.

    A crawl polls at most `max_keys_per_run` keys of an account and region, and each key again after `interval_days` days.
    `max_minutes` limits how long a crawl waits for the polling after everything else is done.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "per_night": "max_keys_per_run",
        "every_days": "interval_days",
        "minutes": "max_minutes",
    }

    enabled: Flag = True
    max_keys_per_run: Annotated[int, whole(1, 100_000, "keys of an account and region")] = 500
    interval_days: Annotated[int, whole(1, 365, "days")] = 7
    max_minutes: Annotated[int, whole(0, 1440, "minutes")] = 30


class CrawlSettings(Group):
    """How the crawl works.

    Each of the `processes` (0: one for each processor) has `concurrency` calls in flight. `quota_share_percent` is the share
    of each AWS request quota, `max_attempts` the attempts for each call, and `retry_budget_percent` the retries for each
    hundred calls of an account. Deadlines are in seconds.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "attempts": "max_attempts",
        "retry_percent": "retry_budget_percent",
        "quota_percent": "quota_share_percent",
        "empty_regions_days": "empty_region_rescan_days",
    }

    processes: Annotated[int, whole(0, 256, "processes")] = 0
    executor: Annotated[str, matching(EXECUTOR, EXECUTOR_EXPECTED)] = "processes"
    concurrency: Annotated[int, whole(1, 4096, "calls in flight")] = 256
    quota_share_percent: Annotated[int, whole(1, 100, "percent")] = 25
    max_attempts: Annotated[int, whole(1, 20, "attempts for each call")] = 10
    retry_budget_percent: Annotated[int, whole(0, 1000, "percent")] = 50
    aws_managed_key_details: Flag = False
    resource_types: tuple[Text, ...] = ()
    iam: Flag = False
    secret_policies: Flag = True
    empty_region_rescan_days: Annotated[int, whole(0, 30, "days")] = 7
    call_deadline: Annotated[int, whole(1, 86_400, "seconds")] = 600
    scope_deadline: Annotated[int, whole(1, 86_400, "seconds")] = 7200
    run_deadline: Annotated[int, whole(1, 604_800, "seconds")] = 43_200
    last_use: LastUseSettings = Field(default_factory=dict, validate_default=True)
    transport: Literal["curl", "boto3"] = "curl"
