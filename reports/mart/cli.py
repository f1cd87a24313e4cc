"""Commands for analysts: SQL on the mart, its schema, and exports of the views."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_main import LimitExceededError, run_limited
from models.cli_options import (
    AS_OF,
    CONFIG,
    LIMIT,
    MART,
    OUTPUT_FILE,
    configured_mart,
    format_option,
    query_limits,
)
from models.output_file import replacing
from reports.mart.errors import OverLimitError, out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from reports.mart.connection import Limits

_OVERHEAD = 32_000_000
"""Bytes of a process that are not its query's. DuckDB gets nine tenths of the limit: it does not count all that it uses."""
FORMAT = format_option(
    "table", "json", "csv", "jsonl", "parquet", about="table has at most --limit rows; parquet needs --output."
)


@click.command()
@CONFIG
@MART
@AS_OF
@FORMAT
@OUTPUT_FILE
@LIMIT
@query_limits
@click.option(
    "--file",
    "query_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="Read the query from this file.",
)
@click.option("--tables", is_flag=True, help="List the views and describe their columns.")
@click.argument("query", required=False)
def sql(*, tables: bool, query: str | None, query_file: Path | None, **options: Any) -> None:
    """Query the mart with SQL (DuckDB's dialect); - reads the query from standard input.

    The mart is opened read-only, and a query has no access to files, the network or settings. Times are UTC; account IDs are
    text. With --as-of, the views have the contents of that run; they are computed on demand, which is slower than a query of
    the last run.

    Exit codes: 2 the query was rejected, 4 it exceeded its time or memory limit.
    """
    if (query is not None) + (query_file is not None) + tables != 1:
        raise click.UsageError("give a query, - to read one from standard input, --file FILE, or --tables")
    if tables:
        mart_path = options["mart_path"] or configured_mart(options["config_path"])
        _list_views(mart_path, options["output_format"], options["limit"], options["output"])
        return
    if query_file is not None:
        query = _text_of(query_file)
    run_query(sys.stdin.read() if query == "-" else query or "", **options)


def run_query(
    query: str,
    *,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    output_format: str,
    output: Path | None,
    limit: int,
    timeout: float,
    memory_limit: int,
    temp_directory: Path | None,
    parameters: Mapping[str, str] | None = None,
    prepared: bool = False,
) -> None:
    """Run a query in a process of its own and write its result, with the options of :func:`sql`.

    A view or column that the mart does not have is an OutdatedMartError if the query is one of this program.
    """
    mart_path = mart_path or configured_mart(config_path)
    if output_format == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")

    def prepare(limits: Limits) -> Callable[[], None]:
        from reports.mart.build_manifest import explain_outdated
        from reports.mart.mart_reader import open_stating_run
        from reports.mart.query import write

        limits = replace(limits, output=unfinished if output_format == "parquet" else None)
        connection = open_stating_run(mart_path, as_of, limits)

        def answer() -> None:
            with connection, explain_outdated(connection, prepared=prepared):
                write(connection, query, form=output_format, limit=limit, path=unfinished, parameters=parameters)

        return answer

    with replacing(output.absolute()) if output else nullcontext() as unfinished:
        run_within(prepare, "the query", timeout, memory_limit, temp_directory)


def run_within(
    prepare: Callable[[Limits], Callable[[], None]],
    subject: str,
    timeout: float,
    memory_limit: int,
    temp_directory: Path | None = None,
) -> None:
    """Run the function that ``prepare`` returns in a process of its own, with the limits of the options.

    ``prepare`` runs in that process too, and imports DuckDB only there. ``subject`` names what runs, for the message of
    OverLimitError.
    """

    def prepare_child() -> Callable[[], None]:
        # Memory that DuckDB has freed must not count as used. Its allocator reads this when DuckDB is imported, below.
        os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "retain:false")
        from reports.mart.connection import Limits

        return prepare(Limits(memory_limit * 9 // 10, spill))

    # The folder is made here, because this process outlives the other one.
    with _folder_in(temp_directory) if temp_directory else nullcontext() as spill:
        try:
            run_limited(prepare_child, seconds=timeout, memory=memory_limit + _OVERHEAD)
        except LimitExceededError as error:
            raise OverLimitError(
                f"{subject} was stopped after {timeout:g} seconds: select less, or allow more time with --timeout"
                if error.timed_out
                else out_of_memory(subject)
            ) from error


@contextmanager
def _folder_in(directory: Path) -> Iterator[Path]:
    """A temporary folder in a directory."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="kmsledger-", dir=directory, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not text in UTF-8") from error


def _list_views(mart_path: Path, output_format: str, limit: int, output: Path | None) -> None:
    from models.safe_text import printable
    from reports.mart.query import described
    from reports.mart.result_writers import writer_of

    if output_format == "parquet" or output is not None:
        raise click.UsageError(
            "--tables writes to standard output: use --format table, json, csv or jsonl, without --output"
        )
    columns, rows = described(mart_path)
    if output_format != "table":
        writer_of(output_format, limit)(sys.stdout, columns, rows)
        return
    view = None
    for name, about, column, kind, description in rows:
        if name != view:
            click.echo(f"{'' if view is None else chr(10)}{name}: {printable(about or '')}")
            view = name
        click.echo(f"  {column} ({kind}): {printable(description or '')}")


@click.command()
@format_option("table", "json", "csv", "markdown")
@OUTPUT_FILE
# Accepted because scripts pass it to every command; the declared schema does not depend on settings.
@click.option("--config", type=click.Path(), expose_value=False, hidden=True)
@click.argument("views", nargs=-1, metavar="[VIEW]...")
def schema(*, output_format: str, output: Path | None, views: tuple[str, ...]) -> None:
    """Describe the mart's views: every column with its type and meaning, history views and as-of macros.

    Describes all views, or only those named. The schema is that of this version: no ledger is needed.

    JSON has `format` (kmsledger.schema/1) and `views`, each with name, about, as_of, history and columns (name, type, about).
    CSV has one row per column.
    """
    from reports.mart.result_writers import write_csv
    from reports.mart.schema import chosen, markdown, plain, text

    relations = chosen(views)
    document = plain(relations)
    if output_format == "json":
        write_text(to_json(document), output)
    elif output_format == "csv":
        rows = [
            (view["name"], column["name"], column["type"], column["about"])
            for view in document["views"]
            for column in view["columns"]
        ]
        buffer = io.StringIO()
        write_csv(buffer, ["view", "column", "type", "about"], rows)
        write_text(buffer.getvalue(), output)
    else:
        write_text(text(relations) + "\n" if output_format == "table" else markdown(relations), output)


def to_json(value: Any) -> str:
    """Indented JSON."""
    import orjson

    from models.safe_text import escaped_json

    return escaped_json(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def write_text(text: str, output: Path | None) -> None:
    """Write text to a file, atomically, or to standard output."""
    if output is None:
        click.echo(text, nl=False)
        return
    with replacing(output) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
