"""The commands that export the views of the mart."""

from __future__ import annotations

from pathlib import Path

import click

from models.cli_options import AS_OF, CONFIG, MART, MEMORY_LIMIT, TEMP_DIRECTORY, configured_mart


@click.command()
@CONFIG
@MART
@AS_OF
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Directory that has, or gets, one folder per view.",
)
@click.option("--views", metavar="VIEW,VIEW", default="", help="Only these views. [default: all but the histories]")
@click.option(
    "--partition",
    type=click.Choice(["account", "region"]),
    multiple=True,
    help="Partition each date further; repeat it for both.",
)
@MEMORY_LIMIT
def parquet(
    *,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    output: Path,
    views: str,
    partition: tuple[str, ...],
    memory_limit: int,
) -> None:
    """Export the views as Parquet files for a data lake: DIR/VIEW/run_date=2026-12-24/part.parquet.

    The date is the day on which the run began (UTC). With --partition, the folder of a date has folders account=ID and
    region=NAME, for views that have these columns. A second export of a run, or of a later run on the same date, replaces the
    files of that date, each atomically; other dates are left alone.
    """
    from reports.exports.parquet import export
    from reports.mart.connection import Limits

    names = [name.strip() for name in views.split(",") if name.strip()]
    mart_path = mart_path or configured_mart(config_path)
    for view in export(mart_path, output, names, partition, as_of=as_of, limits=Limits(memory_limit)):
        click.echo(f"{view.folder}: {view.rows} rows in {view.files} file{'' if view.files == 1 else 's'}")


@click.command()
@CONFIG
@MART
@click.option("--database", metavar="URL", help="PostgreSQL to publish to. [default: the ledger's database]")
@click.option("--schema", "target", default="kmsledger", show_default=True, help="Schema to replace.")
@click.option(
    "--reader", "readers", multiple=True, metavar="ROLE", help="Role that may read the tables; can be repeated."
)
@MEMORY_LIMIT
@TEMP_DIRECTORY
def postgresql(
    *,
    config_path: Path,
    mart_path: Path | None,
    database: str | None,
    target: str,
    readers: tuple[str, ...],
    memory_limit: int,
    temp_directory: Path | None,
) -> None:
    """Publish the views as tables in PostgreSQL, for BI tools that cannot read DuckDB or Parquet.

    All views and histories are copied into a new schema, which then replaces the old one at once: until then, and after a
    failure, the old one stays. Run it after each crawl. docs/postgresql.md describes the tables and the reader's role.
    """
    from models.settings import load
    from reports.exports.postgresql import publish
    from reports.mart.connection import Limits

    settings = load(config_path)
    limits = Limits(memory_limit, temp_directory)
    published = publish(
        mart_path or settings.report.mart, database or settings.database, target, readers, limits=limits
    )
    click.echo(f"schema {target}: {published.tables} tables with {published.rows} rows, as of {published.run}")
    for schema in published.kept:
        click.echo(f"schema {schema} is still being read: the next publication drops it", err=True)
