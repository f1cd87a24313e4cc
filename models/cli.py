"""The commands `config`, `db` and `prune`."""

from pathlib import Path

import click

from models.cli_options import CONFIG


@click.group()
def config() -> None:
    """Check the settings."""


@config.command()
@CONFIG
@click.pass_context
def check(context: click.Context, file: Path) -> None:
    """Report all problems of the settings file, or a summary of the settings."""
    from models.settings import SettingsError, load
    from models.settings.waivers import read_waivers

    try:
        settings = load(file)
        waivers = read_waivers(settings.rules.waivers)
    except SettingsError as error:
        click.echo(error, err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'' if count == 1 else 's'}", err=True)
        context.exit(error.exit_code)
    # Other packages add their own checks through the root command.
    further = (context.find_root().obj or {}).get("check")
    if further is not None:
        further(settings)
    for line in settings.summary():
        click.echo(line)
    if waivers:
        click.echo(f"waivers:  {len(waivers)}")


@click.group()
def db() -> None:
    """Manage the database of the ledger."""


@db.command()
@CONFIG
def upgrade(file: Path) -> None:
    """Upgrade the database to the current schema, or create it."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database)
    database.upgrade(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")


@db.command()
@CONFIG
def current(file: Path) -> None:
    """Print the schema revision of the database and the one that this program requires."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database, must_exist=True)
    with database.translate_errors(engine), engine.connect() as connection:
        click.echo(f"database {database.current(connection) or 'empty'}, program {database.head()}")


@db.command("check")
@CONFIG
def check_schema(file: Path) -> None:
    """Fail unless the database has the current schema."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database, must_exist=True)
    database.check(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")


@db.command("copy")
@click.option("--from", "source", required=True, metavar="URL", help="The ledger to copy; no crawl may run.")
@click.option("--to", "target", required=True, metavar="URL", help="A new or empty database.")
def copy_ledger(source: str, target: str) -> None:
    """Copy the whole ledger to another database, SQLite or PostgreSQL, and verify the copy.

    URLs are sqlite:///path/to/file or postgresql://user@host/database. Pass the password through PGPASSWORD or ~/.pgpass.
    Either all rows are copied, or none.
    """
    from models.store.migrate_data import copy

    done = copy(
        source, target, lambda table: click.echo(f"{table.table}: {table.rows} rows, checksum {table.checksum}")
    )
    click.echo(f"copied {sum(table.rows for table in done)} rows; the copy is identical, table by table")


@click.command()
@click.option(
    "--keep",
    required=True,
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="Keep runs that finished within this number of days.",
)
@click.option(
    "--coverage-keep",
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="The same for coverage [default: the value of --keep].",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@CONFIG
def prune(file: Path, keep: int, coverage_keep: int | None, *, dry_run: bool) -> None:
    """Delete versions closed long ago, old coverage, and policies and runs without references.

    The data of all runs within the retention period stays complete. Answers to "since when" reach back no further than the
    remaining data. Fails while a crawl is running.
    """
    import datetime as dt

    from models.settings import load
    from models.store import engine as database
    from models.store.retention import prune as delete

    engine = database.connect(load(file).database, must_exist=True)
    database.check(engine)
    coverage = None if coverage_keep is None else dt.timedelta(days=coverage_keep)
    pruned = delete(engine, dt.timedelta(days=keep), coverage, dry_run=dry_run)
    if pruned.horizon is None:
        click.echo("the ledger holds no run yet")
        return
    for table, rows in pruned.rows.items():
        click.echo(f"{table}: {rows} rows")
    total = sum(pruned.rows.values())
    done = "would be deleted" if dry_run else "deleted"
    click.echo(f"{total} rows {done}; run {pruned.horizon.versions} is the oldest complete run")
    if pruned.freed is not None:
        click.echo(f"the file shrank by {pruned.freed / 1e6:.1f} MB")
    if pruned.note:
        click.echo(pruned.note)
    if total and not dry_run:
        click.echo("`kmsledger mart` rebuilds the mart from the remaining data")
