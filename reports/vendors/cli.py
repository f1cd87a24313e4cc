"""`kmsledger vendors check`: what the vendors' profiles say of keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from models.cli_options import CONFIG, MART
from models.severities import SEVERITIES

FORMAT = "kmsledger.vendor-checks/1"
CLEAN, FAILING, UNSURE = 0, 1, 3
_QUERY = """
SELECT profile, vendor, subject_type, check_name, account_id, account_name, region, key_arn, key_alias, subject, result, severity,
  reason, fix, statement, evidence, deadline, required, since
FROM vendor_checks
WHERE $profile IS NULL OR profile = $profile
ORDER BY profile, list_position(['key', 'finding', 'profile'], subject_type),
  list_position(['critical', 'high', 'medium', 'low', 'info'], severity), account_id, region, key_alias, key_arn, check_name
"""
_SEVERITIES = SEVERITIES[:-1]


@click.command()
@click.argument("profile", required=False)
@CONFIG
@MART
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json has everything, the statements to set included.",
)
@click.option(
    "--fail-on",
    type=click.Choice([*_SEVERITIES, "never"]),
    help="Instead of rules.fail_on in the settings: from which severity on the exit code is 1.",
)
@click.option("--all", "everything", is_flag=True, help="In a table: also the keys with which all is well.")
def check(
    *, profile: str | None, file: Path, mart_file: Path | None, form: str, fail_on: str | None, everything: bool
) -> None:
    """Check keys against what vendors ask for; PROFILE is one use of a profile, by its name in the settings.

    Exit code 1: a key is blocked, broken or shared too widely, or something is wrong, from the chosen severity on. 3: a key's
    verdict is not known. 0 otherwise. JSON has `format` and `checks`: the columns of view vendor_checks.
    """
    from models.settings import load
    from reports.mart.connection import connect
    from reports.mart.errors import MartError

    settings = load(file)
    with connect(mart_file or settings.report.mart) as connection:
        tables = connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'vendor_checks'").fetchone()
        if tables is None:
            raise MartError("the mart has no vendor checks: rebuild it with `kmsledger mart`")
        cursor = connection.execute(_QUERY, {"profile": profile})
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        known = [
            name for (name,) in connection.execute("SELECT DISTINCT profile FROM vendor_checks ORDER BY 1").fetchall()
        ]
    if profile is not None and not rows:
        raise click.UsageError(f"no use of a profile is named {profile}; there are {', '.join(known) or 'none'}")
    if form == "json":
        json.dump({"format": FORMAT, "checks": [_plain(row) for row in rows]}, sys.stdout, indent=2)
        click.echo()
    else:
        _table(rows, everything=everything)
    raise click.exceptions.Exit(exit_code(rows, fail_on or settings.rules.fail_on))


def exit_code(rows: list[dict[str, Any]], fail_on: str) -> int:
    """The exit code for checks: 1 for one that fails at or above a severity, 3 for a key that is not known, else 0."""
    from reports.vendors.result import FAILING as FAILS
    from reports.vendors.result import Verdict

    counted = _SEVERITIES[: _SEVERITIES.index(fail_on) + 1] if fail_on in _SEVERITIES else ()
    if any(row["result"] in FAILS and row["severity"] in counted for row in rows):
        return FAILING
    if any(row["result"] == Verdict.UNKNOWN and row["severity"] != "info" for row in rows):
        return UNSURE
    return CLEAN


def _table(rows: list[dict[str, Any]], *, everything: bool) -> None:
    from reports.mart.result_writers import printable

    profile, well = None, {"accessible", "denied_by_tag", "not_selected"}
    for row in rows:
        if row["profile"] != profile:
            profile = row["profile"]
            mine = [one for one in rows if one["profile"] == profile]
            keys = [one["result"] for one in mine if one["subject_type"] == "key"]
            counts = ", ".join(f"{keys.count(one)} {one.replace('_', ' ')}" for one in dict.fromkeys(sorted(keys)))
            click.echo(printable(f"{profile} ({row['vendor']}): {counts or 'no key'}"))
        if not everything and row["subject_type"] == "key" and row["result"] in well:
            continue
        what = row["key_alias"] or row["key_arn"] or row["subject"] or ""
        where = f" in {row['account_name'] or row['account_id']}, {row['region']}" if row["account_id"] else ""
        word = (
            row["result"].replace("_", " ")
            if row["subject_type"] != "finding"
            else f"{row['verdict']}: {row['about'].replace('_', ' ')}"
        )
        click.echo(printable(f"  {row['severity']:<8} {word} | {what}{where}"))
        click.echo(printable(f"           {row['reason']}"))
        if row["deadline"]:
            click.echo(f"           By {row['deadline']:%Y-%m-%d}.")
        if row["fix"]:
            more = " (the statement: --format json)" if row["statement"] else ""
            click.echo(printable(f"           What to do: {row['fix']}{more}"))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: f"{row[name]:%Y-%m-%dT%H:%M:%SZ}" if row[name] else None for name in ("deadline", "since")}
