"""Commands about what the ledger itself stands on: its settings."""

from pathlib import Path

import click

_CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("kmsledger.yaml"),
    show_default=True,
    metavar="FILE",
    help="The settings file.",
)


@click.group()
def config() -> None:
    """Settings of kmsledger."""


@config.command()
@_CONFIG
@click.pass_context
def check(context: click.Context, file: Path) -> None:
    """Report every problem of the settings file, or what it configures."""
    from models.settings import SettingsError, load

    try:
        settings = load(file)
    except SettingsError as error:
        click.echo(error, err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'' if count == 1 else 's'}", err=True)
        context.exit(error.exit_code)
    for line in settings.summary():
        click.echo(line)


@click.group()
def db() -> None:
    """The ledger's database."""


@db.command()
@_CONFIG
def upgrade(file: Path) -> None:
    """Bring the database to this program's schema; an empty one is created."""
    from models import database
    from models.settings import load

    engine = database.connect(load(file).database)
    database.upgrade(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")


@db.command()
@_CONFIG
def current(file: Path) -> None:
    """Print the database's schema and the one that this program needs."""
    from models import database
    from models.settings import load

    engine = database.connect(load(file).database, must_exist=True)
    with database.explained(engine), engine.connect() as connection:
        click.echo(f"database {database.current(connection) or 'empty'}, program {database.head()}")


@db.command("check")
@_CONFIG
def check_schema(file: Path) -> None:
    """Fail unless the database has this program's schema."""
    from models import database
    from models.settings import load

    engine = database.connect(load(file).database, must_exist=True)
    database.check(engine)
    click.echo(f"{engine.url.render_as_string(hide_password=True)} has schema {database.head()}")
