"""A key as the subject of a report."""

from __future__ import annotations

import re

import duckdb

from reports.answers.key_history import find_one
from reports.html.subjects.subject import Subject, about_keys
from reports.mart.connection import quoted
from reports.mart.errors import QueryError


def find_key(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The key with an ARN or ID, or the current target of an alias, which can be deleted by now.

    Raises QueryError with close names if nothing or several match.
    """
    match = find_one(connection, text)
    if not match.alias_arns:
        return key(match.key_arns[0])
    query = "SELECT target_key_arn FROM aliases WHERE alias_arn = ? AND target_key_arn IS NOT NULL"
    targets = connection.execute(query, match.alias_arns).fetchall()
    if not targets:
        raise QueryError(f"alias {text!r} no longer exists: specify the ARN of a key: {', '.join(match.key_arns)}")
    return key(targets[0][0])


def key(arn: str) -> Subject:
    """A key, its dependents, and what is known about both."""
    _, _, _, region, account, resource = arn.split(":", 5)
    value = quoted(arn)

    def selects(whole: str) -> dict[str, str]:
        here = f"v.account_id = {quoted(account)} AND v.region IN ({quoted(region)}, '*')"
        return about_keys(
            whole,
            f"({value})",
            coverage=f"v.key_arn = {value} OR ({here} AND coalesce(v.subject, '') = '')",
            accounts="true",
        )

    slug = re.sub(r"[^A-Za-z0-9-]+", "-", f"{account}-{region}-{resource.removeprefix('key/')}")
    return Subject("key", arn, slug, selects, counts_passes=False)
