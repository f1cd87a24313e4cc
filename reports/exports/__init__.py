"""The command group `export`: the formats in which findings and views are exported."""

from __future__ import annotations

import click

from models.cli_groups import LazyCommand, LazyGroup

EXPORTS = {
    "findings": LazyCommand("reports.exports.cli", "findings", "Findings as OCSF, ASFF, SARIF, CSV or JSON Lines."),
    "evidence": LazyCommand("reports.evidence.cli", "evidence", "The evidence pack of a framework, for auditors."),
    "parquet": LazyCommand("reports.exports.views_cli", "parquet", "Views as Parquet files for a data lake."),
    "postgresql": LazyCommand(
        "reports.exports.views_cli", "postgresql", "Views as tables in PostgreSQL, for BI tools."
    ),
}


@click.group(cls=LazyGroup, sections={"Commands": EXPORTS})
def export() -> None:
    """Export findings, views and evidence packs."""
