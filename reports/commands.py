"""Commands that answer: the reports and the analysts' database."""

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("kmsledger.yaml"),
    show_default=True,
    metavar="FILE",
    help="The settings file.",
)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--output",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the files go, instead of report.directory in the settings.",
)
@CONFIG
def report(name: str | None, directory: Path | None, file: Path) -> None:
    """Write the HTML reports about the last run, all of them or the one called NAME.

    Each is written twice with the same content: under the number of its run, and under a name that never changes.
    """
    from models.settings import load
    from reports.html.catalogue import REPORTS, find, write

    chosen = REPORTS if name is None else (find(name),)
    settings = load(file)
    for path in write(chosen, settings.report.mart, directory or settings.report.directory, settings):
        click.echo(path)
