"""`kmsledger export evidence` and `kmsledger verify`: write and check the evidence pack of a framework."""

from __future__ import annotations

import re
from pathlib import Path

import click

from models.cli_options import AS_OF, CONFIG, MART, MEMORY_LIMIT, TEMP_DIRECTORY

FAILED = 1


@click.command()
@click.option("--framework", required=True, metavar="FRAMEWORK", help="ID of the framework, such as cis-aws-7.0.0.")
@CONFIG
@MART
@AS_OF
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this file, atomically. [default: named after framework and run, in report.directory of the settings]",
)
@MEMORY_LIMIT
@TEMP_DIRECTORY
def evidence(
    *,
    framework: str,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    output: Path | None,
    memory_limit: int,
    temp_directory: Path | None,
) -> None:
    """Write the evidence pack of a framework for auditors: a ZIP file that `kmsledger verify` checks.

    Per control it has every resource with its status and reason, and the rules with their queries; for the whole run the
    waivers, key policies, coverage and gaps. The same run, rules and program give the same bytes: --as-of writes the pack of an
    earlier run again. Keep the digest that the command prints: it proves later that the pack was not replaced.
    """
    from importlib.metadata import version

    from models.file_access import make_directory
    from models.output_file import explained
    from models.settings import load
    from reports.evidence.pack import find_framework, load_evidence, write
    from reports.mart.connection import Limits
    from reports.mart.mart_reader import open_mart
    from reports.rules.loader import load_rules

    chosen = find_framework(framework)
    settings = load(config_path)
    limits = Limits(memory_limit, temp_directory)
    # As of an earlier run the views are not stored: storing them is not subject to the memory limit, and no faster here.
    with open_mart(mart_path or settings.report.mart, as_of, limits=limits)[0] as connection:
        pack = load_evidence(connection, chosen, load_rules(settings), version("kmsledger"))
        if output is None:
            output = settings.report.directory / pack.file_name
            with explained(output):
                make_directory(output.parent)
        written = write(connection, pack, output)
    if written.differences:
        click.echo(
            f"rules whose results differ from those that run {pack.run['run_id']} recorded: {', '.join(written.differences)} "
            "(see README.md in the pack)",
            err=True,
        )
    click.echo(
        f"{output}: {written.files} files about run {pack.run['run_id']}; SHA-256 of the manifest {written.digest}"
    )


def _sha256(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise click.BadParameter("expected 64 hexadecimal digits, as `kmsledger export evidence` prints them")
    return value and value.lower()


@click.command()
@click.option(
    "--digest", metavar="SHA256", callback=_sha256, help="The SHA-256 of the manifest, as printed with the pack."
)
# Accepted because scripts pass it to every command; the check depends on no settings.
@click.option("--config", type=click.Path(), expose_value=False, hidden=True)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
def verify(*, file: Path, digest: str | None) -> None:
    """Check that an evidence pack is intact; nothing is extracted.

    Without --digest, the check proves that the files agree with their manifest; with it, that the manifest is the original
    too. Exit code 1: the pack was changed, a line per problem.
    """
    from models.safe_text import printable
    from reports.evidence.verify import check

    result = check(file, digest)
    for problem in result.problems:
        click.echo(printable(f"{file}: {problem}"), err=True)
    if result.problems:
        raise click.exceptions.Exit(FAILED)
    click.echo(printable(f"{file} is intact: {result.files} files; SHA-256 of the manifest {result.digest}"))
