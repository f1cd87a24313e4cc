"""`kmsledger vendors check`: checks of keys against vendor profiles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from models.cli_options import CONFIG, MART, format_option
from models.severities import SEVERITIES, THRESHOLDS

FORMAT = "kmsledger.vendor-checks/1"
CLEAN, FAILING, UNKNOWN = 0, 1, 3
_COLUMNS = (
    "profile", "vendor", "subject_type", "check_name", "account_id", "account_name", "region", "key_arn", "key_alias",
    "subject", "result", "severity", "reason", "fix", "statement", "evidence", "deadline", "required", "since",
)  # fmt: skip
_QUERY = f"""
SELECT {", ".join(_COLUMNS)}
FROM vendor_checks
WHERE $profile IS NULL OR profile = $profile
ORDER BY profile, list_position(['key', 'finding', 'profile'], subject_type),
  list_position(['critical', 'high', 'medium', 'low', 'info'], severity), account_id, region, key_alias, key_arn, check_name
"""


@click.command()
@click.argument("profile", required=False)
@CONFIG
@MART
@format_option("table", "json", "csv", about="json and csv have every field, including policy statements.")
@click.option(
    "--fail-on",
    type=click.Choice(THRESHOLDS),
    help="Exit with 1 if a check fails at or above this severity. [default: rules.fail_on in the settings]",
)
@click.option("--all", "everything", is_flag=True, help="In a table, list keys without problems as well.")
def check(
    *,
    profile: str | None,
    config_path: Path,
    mart_path: Path | None,
    output_format: str,
    fail_on: str | None,
    everything: bool,
) -> None:
    """Check keys against the requirements of vendors; PROFILE is a vendor profile, by its name in the settings.

    Exit codes: 0 no problem; 1 a check fails at or above the chosen severity (a key is blocked, broken or shared too widely);
    3 the result for a key is unknown. JSON has `format` and `checks`: the columns of view vendor_checks, as in CSV.
    """
    from models.settings import load
    from reports.mart.connection import connect
    from reports.mart.errors import MartError
    from reports.mart.rows import rows

    settings = load(config_path)
    with connect(mart_path or settings.report.mart) as connection:
        tables = connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'vendor_checks'").fetchone()
        if tables is None:
            raise MartError("the mart has no vendor checks: rebuild it with `kmsledger mart`")
        checks = rows(connection, _QUERY, {"profile": profile})
        known = [row["profile"] for row in rows(connection, "SELECT DISTINCT profile FROM vendor_checks ORDER BY 1")]
    if profile is not None and not checks:
        raise click.UsageError(
            f"the settings use no vendor profile named {profile}: choose one of {', '.join(known) or 'none'}"
        )
    if output_format == "csv":
        from reports.mart.result_writers import write_csv

        write_csv(sys.stdout, _COLUMNS, (list(row.values()) for row in checks))
    elif output_format == "json":
        json.dump({"format": FORMAT, "checks": [_to_dict(row) for row in checks]}, sys.stdout, indent=2)
        click.echo()
    else:
        _table(checks, everything=everything)
    raise click.exceptions.Exit(exit_code(checks, fail_on or settings.rules.fail_on))


def exit_code(rows: list[dict[str, Any]], fail_on: str) -> int:
    """1 if a check fails at or above a severity, 3 if the result for a key is unknown, else 0."""
    from reports.vendors.result import FAILING as FAILS
    from reports.vendors.result import CheckResult

    counted = SEVERITIES[: SEVERITIES.index(fail_on) + 1] if fail_on in SEVERITIES else ()
    if any(row["result"] in FAILS and row["severity"] in counted for row in rows):
        return FAILING
    if any(row["result"] == CheckResult.UNKNOWN and row["severity"] != "info" for row in rows):
        return UNKNOWN
    return CLEAN


def _table(rows: list[dict[str, Any]], *, everything: bool) -> None:
    from models.safe_text import printable

    profile, without_problems = None, {"accessible", "denied_by_tag", "not_selected"}
    for row in rows:
        if row["profile"] != profile:
            profile = row["profile"]
            results = [key["result"] for key in rows if key["profile"] == profile and key["subject_type"] == "key"]
            counts = ", ".join(f"{results.count(name)} {name.replace('_', ' ')}" for name in sorted(set(results)))
            click.echo(printable(f"{profile} ({row['vendor']}): {counts or 'no keys'}"))
        if not everything and row["subject_type"] == "key" and row["result"] in without_problems:
            continue
        subject = row["key_alias"] or row["key_arn"] or row["subject"] or ""
        where = f" in {row['account_name'] or row['account_id']}, {row['region']}" if row["account_id"] else ""
        label = (
            row["result"].replace("_", " ")
            if row["subject_type"] != "finding"
            else f"{row['result']}: {row['check_name'].replace('_', ' ')}"
        )
        click.echo(printable(f"  {row['severity']:<8} {label} | {subject}{where}"))
        click.echo(printable(f"           {row['reason']}"))
        if row["deadline"]:
            click.echo(f"           By {row['deadline']:%Y-%m-%d}.")
        if row["fix"]:
            statement = " (statement: --format json)" if row["statement"] else ""
            click.echo(printable(f"           Fix: {row['fix']}{statement}"))


def _to_dict(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: f"{row[name]:%Y-%m-%dT%H:%M:%SZ}" if row[name] else None for name in ("deadline", "since")}
