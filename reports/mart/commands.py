"""Commands of analysts: SQL on the mart, what there is to ask about, questions that come with answers, files for lakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reports.commands import AS_OF, CONFIG, MART, mart_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.mart.reader import Limits

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
) -> None:
    """Run a query and write its answer, with the options of :func:`sql`."""
    from reports.mart.output import replacing, writer_of
    from reports.mart.query import ask, write_parquet
    from reports.mart.reader import Limits

    mart_file = mart_file or mart_of(file)
    if form == "parquet":
        if output is None:
            raise click.UsageError("--format parquet needs --output FILE")
        with replacing(output.absolute()) as beside:
            limits = Limits(memory=memory, spill=spill, output=beside)
            write_parquet(_connected(mart_file, as_of, limits), query, beside, timeout)
        return
    connection = _connected(mart_file, as_of, Limits(memory=memory, spill=spill))
    columns, rows = ask(mart_file, query, connection, timeout)
    write = writer_of(form, limit)
    if output is None:
        write(sys.stdout, columns, rows)
        return
    with replacing(output) as beside, beside.open("w", encoding="utf-8", newline="") as out:
        write(out, columns, rows)


def _connected(mart_file: Path, as_of: str | None, limits: Limits) -> Any:
    from reports.mart import past, reader

    if as_of is None:
        return reader.connect(mart_file, limits)
    connection, moment = past.connect(mart_file, as_of, limits=limits)
    click.echo(f"as of {moment}", err=True)
    return connection


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not text in UTF-8") from error


def _tables(mart_file: Path, form: str, limit: int, output: Path | None) -> None:
    from reports.mart.output import printable, writer_of
    from reports.mart.query import described

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
