"""The settings of the answers: where they go, and how much of a list the HTML shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from models.settings.types import FilePath, Group, Text, whole


class ReportSettings(Group):
    """Where answers go, and what the HTML shows; whatever it leaves out, it says how much.

    A table has at most `list_limit` rows; a rule at most `findings_limit` findings of each status. `frameworks` are ids in the
    order of the compliance report, all where there is none.
    """

    directory: FilePath = Path("reports-out")
    title: Text = "KMS ledger"
    mart: FilePath = Path("kmsledger.duckdb")
    list_limit: Annotated[int, whole(10, 100_000, "rows")] = 5000
    findings_limit: Annotated[int, whole(1, 100_000, "findings")] = 50
    frameworks: tuple[Text, ...] = ()
