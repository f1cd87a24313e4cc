"""The settings of the coverage that a run must have."""

from __future__ import annotations

from typing import Annotated

from models.settings.types import Group, whole


class CoverageSettings(Group):
    """When missing data is a failure, and when it is tolerated.

    A run that read less than `min_percent` of the account-regions completely has failed. Gaps of an account-region are tolerated
    for `max_consecutive_gaps` runs in a row.
    """

    min_percent: Annotated[int, whole(0, 100, "percent")] = 0
    max_consecutive_gaps: Annotated[int, whole(0, 1000, "runs")] = 0
