"""Commands about what the ledger itself stands on: its settings."""

from pathlib import Path

import click

from models.cli_options import CONFIG


@click.group()
def config() -> None:
    """Settings of kmsledger."""


@config.command()
@CONFIG
@click.pass_context
def check(context: click.Context, file: Path) -> None:
    """Report every problem of the settings file, or what it configures."""
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
    # The models do not know what else makes use of settings; the command that they are part of does.
    further = (context.find_root().obj or {}).get("check")
    if further is not None:
        further(settings)
    for line in settings.summary():
        click.echo(line)
    if waivers:
        click.echo(f"waivers:  {len(waivers)}")


@click.group()
def db() -> None:
    """The ledger's database."""


@db.command()
@CONFIG
def upgrade(file: Path) -> None:
    """Bring the database to this program's schema; an empty one is created."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database)
    database.upgrade(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")


@db.command()
@CONFIG
def current(file: Path) -> None:
    """Print the database's schema and the one that this program needs."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database, must_exist=True)
    with database.translate_errors(engine), engine.connect() as connection:
        click.echo(f"database {database.current(connection) or 'empty'}, program {database.head()}")


@db.command("check")
@CONFIG
def check_schema(file: Path) -> None:
    """Fail unless the database has this program's schema."""
    from models.settings import load
    from models.store import engine as database

    engine = database.connect(load(file).database, must_exist=True)
    database.check(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")


@db.command("copy")
@click.option("--from", "source", required=True, metavar="URL", help="The ledger to copy; no crawl may run.")
@click.option("--to", "target", required=True, metavar="URL", help="A new or empty database.")
def copy_ledger(source: str, target: str) -> None:
    """Copy the whole ledger to another database, SQLite or PostgreSQL, and compare what arrived.

    URLs are sqlite:///path/to/file or postgresql://user@host/database; a password is better left to PGPASSWORD or ~/.pgpass.
    All rows arrive, or none.
    """
    from models.store.migrate_data import copy

    done = copy(source, target, lambda one: click.echo(f"{one.table}: {one.rows} rows, checksum {one.checksum}"))
    click.echo(f"copied {sum(one.rows for one in done)} rows; what arrived is equal, table by table")


@click.command()
@click.option(
    "--keep",
    required=True,
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="Runs that finished within so many days stay whole.",
)
@click.option(
    "--coverage-keep",
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="The same for coverage [default: as --keep].",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@CONFIG
def prune(file: Path, keep: int, coverage_keep: int | None, *, dry_run: bool) -> None:
    """Delete versions that ended long ago, coverage of long ago, and policies and runs that nothing points to any more.

    What was known in any run that finished within the days to keep stays as it was. Answers to "since when" reach back no
    further than what is left. Refused while a crawl runs.
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
    click.echo(f"{total} rows {done}; run {pruned.horizon.versions} is the oldest that is whole")
    if pruned.freed is not None:
        click.echo(f"the file became {pruned.freed / 1e6:.1f} MB smaller")
    if pruned.note:
        click.echo(pruned.note)
    if total and not dry_run:
        click.echo("`kmsledger mart` rebuilds the analysts' database from what is left")
