"""The settings of the crawl."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.settings.types import Flag, Group, Text, matching, whole

EXECUTOR = r"processes|dask://(local|[A-Za-z0-9._-]{1,253}:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5})"
EXECUTOR_EXPECTED = "processes, dask://HOST:PORT or dask://local"


class LastUseSettings(Group):
    """When keys were last used: at most `max_keys_per_run` keys an account and region, each again after `interval_days` days.

    `minutes` is how long a run may go on for it when all else is done.
    """

    enabled: Flag = True
    max_keys_per_run: Annotated[int, whole(1, 100_000, "keys of an account and region")] = 500
    interval_days: Annotated[int, whole(1, 365, "days")] = 7
    minutes: Annotated[int, whole(0, 1440, "minutes")] = 30


class CrawlSettings(Group):
    """How the crawl works.

    `processes` (0: one a processor), each with `concurrency` calls in flight; `quota_share_percent` of AWS's request quotas;
    `attempts` tries a call; `retry_budget_percent` retries for each hundred calls of an account; deadlines in seconds.
    """

    processes: Annotated[int, whole(0, 256, "processes")] = 0
    executor: Annotated[str, matching(EXECUTOR, EXECUTOR_EXPECTED)] = "processes"
    concurrency: Annotated[int, whole(1, 4096, "calls in flight")] = 256
    quota_share_percent: Annotated[int, whole(1, 100, "per cent")] = 25
    attempts: Annotated[int, whole(1, 20, "tries a call")] = 10
    retry_budget_percent: Annotated[int, whole(0, 1000, "per cent")] = 50
    aws_managed_key_details: Flag = False
    resource_types: tuple[Text, ...] = ()
    iam: Flag = False
    secret_policies: Flag = True
    empty_region_rescan_days: Annotated[int, whole(0, 30, "days")] = 7
    call_deadline: Annotated[int, whole(1, 86_400, "seconds")] = 600
    scope_deadline: Annotated[int, whole(1, 86_400, "seconds")] = 7200
    run_deadline: Annotated[int, whole(1, 604_800, "seconds")] = 43_200
    last_use: LastUseSettings = Field(default_factory=dict, validate_default=True)
    transport: Literal["wire", "boto3"] = "wire"
