"""Commands of analysts: SQL on the mart, what there is to ask about, questions that come with answers, files for lakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import CONFIG, MART
from reports.cli import AS_OF, mart_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reports.mart.connection import Limits

OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write there, all at once, instead of to standard output.",
)
LIMIT = click.option(
    "--limit", type=click.IntRange(min=0), default=1000, show_default=True, help="Rows of a table at most; 0 for all."
)
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "jsonl", "parquet"]),
    default="table",
    show_default=True,
    help="All but table have every row; parquet needs --output.",
)
_LIMITS = (
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=300,
        show_default=True,
        metavar="SECONDS",
        help="Stop a query that works longer.",
    ),
    click.option(
        "--memory", default="4GB", show_default=True, metavar="SIZE", help="What a query may use: 500MB, 4GB."
    ),
    click.option(
        "--spill",
        type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
        metavar="DIR",
        help="Where a query may put what does not fit, at most 20 GB; by default nothing is written to disk.",
    ),
)


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Options of a command that runs queries: timeout, memory and spill."""
    for option in reversed(_LIMITS):
        command = option(command)
    return command


@click.command()
@CONFIG
@MART
@AS_OF
@FORMAT
@OUTPUT
@LIMIT
@limited
@click.option(
    "--file",
    "query_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="Read the query from a file.",
)
@click.option("--tables", is_flag=True, help="List the views and what their columns mean.")
@click.argument("query", required=False)
def sql(*, tables: bool, query: str | None, query_file: Path | None, **options: Any) -> None:
    """Query the analysts' database with SQL (DuckDB's); - reads the query from standard input.

    The database is opened for reading only, and the query reaches nothing but it: no files, no network, no settings. Times
    are UTC; ids of accounts are texts. With --as-of all views answer as they did after that run; each query computes what it
    reads of them, which takes longer than asking about the last run.

    Exit code 2 says that the query was refused, 4 that it took more time or memory than it was given.
    """
    if (query is not None) + (query_file is not None) + tables != 1:
        raise click.UsageError("give a query, - to read one from standard input, --file FILE, or --tables")
    if tables:
        _tables(options["mart_file"] or mart_of(options["file"]), options["form"], options["limit"], options["output"])
        return
    if query_file is not None:
        query = _text_of(query_file)
    answer(sys.stdin.read() if query == "-" else query or "", **options)


def answer(
    query: str,
    *,
    file: Path,
    mart_file: Path | None,
    as_of: str | None,
    form: str,
    output: Path | None,
    limit: int,
    timeout: float,
    memory: str,
    spill: Path | None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Run a query and write its answer, with the options of :func:`sql`."""
    from reports.mart.connection import Limits
    from reports.mart.query import ask, write_parquet
    from reports.mart.result_writers import replacing, writer_of

    mart_file = mart_file or mart_of(file)
    if form == "parquet":
        if output is None:
            raise click.UsageError("--format parquet needs --output FILE")
        with replacing(output.absolute()) as beside:
            limits = Limits(memory=memory, spill=spill, output=beside)
            write_parquet(_connected(mart_file, as_of, limits), query, beside, timeout, parameters)
        return
    connection = _connected(mart_file, as_of, Limits(memory=memory, spill=spill))
    columns, rows = ask(mart_file, query, connection, timeout, parameters)
    write = writer_of(form, limit)
    if output is None:
        write(sys.stdout, columns, rows)
        return
    with replacing(output) as beside, beside.open("w", encoding="utf-8", newline="") as out:
        write(out, columns, rows)


def _connected(mart_file: Path, as_of: str | None, limits: Limits) -> Any:
    from reports.mart import as_of_connection
    from reports.mart.connection import connect

    if as_of is None:
        return connect(mart_file, limits)
    connection, moment = as_of_connection.connect(mart_file, as_of, limits=limits)
    click.echo(f"as of {moment}", err=True)
    return connection


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not text in UTF-8") from error


def _tables(mart_file: Path, form: str, limit: int, output: Path | None) -> None:
    from reports.mart.query import described
    from reports.mart.result_writers import printable, writer_of

    if form == "parquet" or output is not None:
        raise click.UsageError("--tables is written to standard output, as table, csv, json or jsonl")
    columns, listed = described(mart_file)
    if form != "table":
        writer_of(form, limit)(sys.stdout, columns, listed)
        return
    view = None
    for name, about, column, kind, description in listed:
        if name != view:
            click.echo(f"{'' if view is None else chr(10)}{name}: {printable(about or '')}")
            view = name
        click.echo(f"  {column} ({kind}): {printable(description or '')}")


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@OUTPUT
# Taken as by every command, so that scripts need not tell them apart; what is declared depends on no settings.
@click.option("--config", type=click.Path(), expose_value=False, hidden=True)
@click.argument("views", nargs=-1, metavar="[VIEW]...")
def schema(*, form: str, output: Path | None, views: tuple[str, ...]) -> None:
    """Describe the views that SQL can ask: every column with its type and meaning, histories, and as-of macros.

    All of them, or those that are named. It is what this version declares: no ledger is needed.

    JSON has `format` (kmsledger.schema/1) and `views`, each with name, about, as_of, history and columns (name, type, about).
    """
    from reports.mart.schema import chosen, markdown, plain, text

    relations = chosen(views)
    if form == "json":
        _written(_json(plain(relations)), output)
    else:
        _written(text(relations) + "\n" if form == "text" else markdown(relations), output)


@click.command()
@CONFIG
@MART
@AS_OF
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "jsonl", "parquet", "markdown"]),
    default="table",
    show_default=True,
    help="Of an answer as for sql; of the list itself also json and markdown.",
)
@OUTPUT
@LIMIT
@limited
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the query; more than once.")
@click.option("--show", is_flag=True, help="Show the query and what its answer means, instead of the answer.")
@click.argument("name", required=False)
def cookbook(*, name: str | None, given: tuple[str, ...], show: bool, **options: Any) -> None:
    """Answer real questions: what breaks without this key, what can that vendor decrypt, what changed last night ...

    Without NAME the questions are listed. Each is one query over the views, which --show prints, to start your own from.
    """
    from reports.answers.cookbook_loader import find, listed, markdown, plain, recipes, shown

    form, output = options["form"], options["output"]
    if name is None:
        if given or show or form not in {"table", "json", "markdown"}:
            raise click.UsageError(
                "name a question to show or answer; the list itself is written as table, json or markdown"
            )
        everything = {"table": lambda: listed() + "\n", "markdown": lambda: markdown(recipes())}
        _written(everything[form]() if form != "json" else _json([plain(one) for one in recipes()]), output)
        return
    recipe = find(name)
    if form == "markdown":
        _written(markdown([recipe]), output)
    elif show:
        _written(shown(recipe) + "\n" if form != "json" else _json(plain(recipe)), output)
    else:
        answer(recipe.query, **options, parameters=recipe.values(_pairs(given)))


@click.command()
@CONFIG
@MART
@AS_OF
@click.option(
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the views' folders are, or are made.",
)
@click.option("--views", metavar="A,B", default="", help="Only these views; by default all but the histories.")
@click.option(
    "--partition",
    "partition",
    type=click.Choice(["account", "region"]),
    multiple=True,
    help="Divide each date further; more than once for both.",
)
@click.option("--memory", default="4GB", show_default=True, metavar="SIZE", help="What the export may use.")
def parquet(
    *,
    file: Path,
    mart_file: Path | None,
    as_of: str | None,
    folder: Path,
    views: str,
    partition: tuple[str, ...],
    memory: str,
) -> None:
    """Write the views as Parquet files for a data lake: DIR/VIEW/run_date=2026-12-24/part.parquet.

    The date is that on which the run began (UTC). With --partition a date's folder has folders account=ID and region=NAME,
    for views that have these columns. Doing it again, or for a later run of the same date, replaces that date's files, each at
    once; other dates are left alone.
    """
    from reports.mart.connection import Limits
    from reports.mart.parquet_export import export

    names = [name.strip() for name in views.split(",") if name.strip()]
    for one in export(mart_file or mart_of(file), folder, names, partition, as_of=as_of, limits=Limits(memory)):
        click.echo(f"{one.folder}: {one.rows} rows in {one.files} file{'' if one.files == 1 else 's'}")


@click.command()
@CONFIG
@click.option("--print", "only_print", is_flag=True, help="Print the SQL, for somebody who may create schemas.")
def postgresql(*, file: Path, only_print: bool) -> None:
    """Create views in the ledger's PostgreSQL, for BI tools that speak only to it (schema kmsledger).

    They answer as of the latest run that ended, by themselves: do it once, and again after an upgrade, which replaces them. The
    crawler's own tables are not changed. docs/postgresql.md lists them, and the rights that a reader needs.
    """
    from models.settings import load
    from reports.mart.postgres_views import create, statements

    if only_print:
        click.echo("BEGIN;\n" + ";\n".join(statements()) + ";\nCOMMIT;")
        return
    click.echo(f"{create(load(file).database)} views in schema kmsledger")


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign:
            raise click.UsageError(f"--set {one}: write NAME=VALUE")
        found[name] = value
    return found


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _written(text: str, output: Path | None) -> None:
    from reports.mart.result_writers import replacing

    if output is None:
        click.echo(text, nl=False)
        return
    with replacing(output) as beside:
        beside.write_text(text, encoding="utf-8")
