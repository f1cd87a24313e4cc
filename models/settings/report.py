"""The settings of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from models.settings.types import FilePath, Group, Text, Unset, Url, invalid, whole

UTC = "UTC"


def _time_zone(name: str) -> str:
    try:
        # UTC needs no data of the system.
        if name != UTC:
            ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise invalid("the name of a time zone such as Europe/Berlin, which this system knows") from error
    return name


class ReportSettings(Group):
    """Output files of the reports and limits of the HTML report, which notes the number of omitted rows.

    A table has at most `list_limit` rows, and a rule at most `findings_limit` findings of each status. `frameworks` lists the
    IDs for the compliance report in their order; empty means the current version of each framework. The header shows the time of
    the run in UTC and in the `time_zone`. `publish` is a folder for copies of the reports and an index page, `base_url` the
    address at which readers find the files of `publish` or, without it, of `directory`.
    """

    directory: FilePath = Path("reports-out")
    title: Text = "KMS ledger"
    mart: FilePath = Path("kmsledger.duckdb")
    time_zone: Annotated[Text, AfterValidator(_time_zone)] = UTC
    list_limit: Annotated[int, whole(10, 100_000, "rows")] = 10_000
    findings_limit: Annotated[int, whole(1, 100_000, "findings")] = 1000
    frameworks: tuple[Text, ...] = ()
    publish: Annotated[FilePath | None, Unset] = None
    base_url: Annotated[Url | None, Unset] = None
