"""Commands that administer the ledger: settings, database and retention."""

from pathlib import Path

import click

from models.cli_options import CONFIG
from models.cli_settings import configured
from models.errors import Collected


@click.group()
def config() -> None:
    """Check the settings file."""


@config.command()
@CONFIG
@click.pass_context
def check(context: click.Context, config_path: Path) -> None:
    """Report every problem of the settings file at once, or print a summary of the settings."""
    from models.settings import SettingsError, load
    from models.settings.waivers import read_waivers

    errors = Collected()
    with errors:
        settings = load(Path(config_path))  # a missing file is a problem here, even at the default path
        with errors:
            waivers = read_waivers(settings.rules.waivers)
        # models must not import crawler and reports; the root command passes the checks of what the settings refer to.
        check_references = (context.find_root().obj or {}).get("check")
        if check_references is not None:
            check_references(settings)
    problems = errors.messages()
    if problems:
        click.echo("\n".join(problems), err=True)
        click.echo(f"{len(problems)} problem{'' if len(problems) == 1 else 's'}", err=True)
        context.exit(SettingsError.exit_code)
    for line in settings.summary():
        click.echo(line)
    if waivers:
        click.echo(f"waivers:  {len(waivers)}")


@click.group()
def db() -> None:
    """Create, upgrade, check or copy the ledger's database."""


@db.command()
@CONFIG
def upgrade(config_path: Path) -> None:
    """Upgrade the database to the schema of this version; creates the schema in an empty database."""
    from models.store import engine as database

    with database.opened(configured(config_path).database) as engine:
        database.upgrade(engine)
        click.echo(f"{database.shown(engine.url)} has schema {database.head()}")


@db.command()
@CONFIG
def current(config_path: Path) -> None:
    """Print the schema version of the database and the one that this version needs."""
    from models.settings import load
    from models.store import engine as database

    with (
        database.opened(load(config_path).database, must_exist=True) as engine,
        database.translate_errors(engine),
        engine.connect() as connection,
    ):
        click.echo(f"database {database.current(connection) or 'empty'}, required {database.head()}")


@db.command("check")
@CONFIG
def check_schema(config_path: Path) -> None:
    """Fail unless the database has the schema of this version."""
    from models.settings import load
    from models.store import engine as database

    with database.opened(load(config_path).database, must_exist=True) as engine:
        database.check(engine)
        click.echo(f"{database.shown(engine.url)} has schema {database.head()}")


@db.command("copy")
@click.option("--from", "source", required=True, metavar="URL", help="Ledger to copy; no crawl may be running.")
@click.option("--to", "target", required=True, metavar="URL", help="New or empty database.")
@click.option(
    "--redact", is_flag=True, help="Replace the names and e-mail addresses of accounts, and the names of OUs."
)
def copy_ledger(source: str, target: str, *, redact: bool) -> None:
    """Copy the ledger to another database, SQLite or PostgreSQL, and verify the copy.

    URLs are sqlite:///path/to/file or postgresql://user@host/database; pass a password in PGPASSWORD or ~/.pgpass instead. The
    copy is atomic: all rows are copied, or none.
    """
    from models.store.migrate_data import Copied, copy

    def say(table: Copied) -> None:
        click.echo(f"{table.table}: {table.rows} rows, checksum {table.checksum}")

    copied = copy(source, target, say, redact=redact)
    outcome = (
        "the copy is identical, except for the redacted names" if redact else "the copy is identical, table by table"
    )
    click.echo(f"copied {sum(table.rows for table in copied)} rows; {outcome}")


@click.command()
@click.option(
    "--keep",
    required=True,
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="Keep all data of runs that finished within this number of days.",
)
@click.option(
    "--coverage-keep",
    type=click.IntRange(1, 36_500),
    metavar="DAYS",
    help="The same for coverage. [default: as --keep]",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@CONFIG
def prune(config_path: Path, keep: int, coverage_keep: int | None, *, dry_run: bool) -> None:
    """Delete versions that ended long ago, old coverage, and policies and runs that nothing references.

    All data of every run that finished within the days to keep is kept. Times such as "since" and "first seen" cannot be earlier
    than the remaining data. Rejected while a crawl is running.
    """
    import datetime as dt

    from models.store import engine as database
    from models.store.retention import prune as delete

    coverage = None if coverage_keep is None else dt.timedelta(days=coverage_keep)
    with database.opened(configured(config_path).database, must_exist=True) as engine:
        database.check(engine)
        pruned = delete(engine, dt.timedelta(days=keep), coverage, dry_run=dry_run)
    if pruned.horizon is None:
        click.echo("the ledger has no run yet")
        return
    for table, rows in pruned.rows.items():
        click.echo(f"{table}: {rows} rows")
    total = sum(pruned.rows.values())
    outcome = "would be deleted" if dry_run else "deleted"
    click.echo(f"{total} rows {outcome}; run {pruned.horizon.versions} is the oldest complete run")
    if pruned.freed is not None:
        click.echo(f"the file shrank by {pruned.freed / 1e6:.1f} MB")
    if pruned.note:
        click.echo(pruned.note)
    if total and not dry_run:
        click.echo("run `kmsledger mart` to rebuild the mart without the deleted data")
