"""An owner as the subject of a report."""

from __future__ import annotations

import duckdb

from reports.html.subjects.subject import OWN, OWN_CATALOG, Subject, about_keys, matching, slug
from reports.mart.connection import fetch_one, quoted


def find_owner(connection: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """The owner with a name. Raises QueryError with close names if the mart's run has none."""
    query = "SELECT DISTINCT owner FROM owners ORDER BY owner"
    name = matching("owner", text, [name for (name,) in connection.execute(query).fetchall()], query)
    earlier = "SELECT max(run_id) FROM runs WHERE status IN ('complete', 'partial') AND run_id < internal.view_run()"
    return owner(name, fetch_one(connection, earlier)[0])


def owner(name: str, earlier_run: int | None) -> Subject:
    """An owner: what the view ``owners`` assigns to it, the resources that use its keys, and what is known about both.

    A finding, change or gap belongs to the owner of the resource, else of the key, else of the account. What no longer exists
    belongs to its owner as of ``earlier_run``.
    """
    value = quoted(name)

    def selects(whole: str) -> dict[str, str]:
        every = f"SELECT resource_arn, owner FROM {whole}owners"
        if earlier_run is not None:
            every += (
                f" UNION ALL SELECT resource_arn, owner FROM {whole}owners_as_of({earlier_run:d}) "
                f"WHERE resource_arn NOT IN (SELECT resource_arn FROM {whole}owners)"
            )
        source = f"{OWN_CATALOG}.internal.any_owner" if whole else f"({every})"

        def owned(*columns: str) -> str:
            owners = (
                f"(SELECT any_value(o.owner) FROM {source} o WHERE o.resource_arn = v.{column})" for column in columns
            )
            return f"coalesce({', '.join(owners)}) = {value}"

        owned_here = f"{OWN}owners" if whole else f"owners WHERE owner = {value}"
        mine = f"(SELECT resource_arn FROM {owned_here})"
        accounts = f"v.account_id IN (SELECT account_id FROM {owned_here})"
        stored = {"internal.any_owner": every} if whole else {}
        return stored | about_keys(
            whole,
            mine,
            owners=f"v.owner = {value}",
            resources=f"v.resource_arn IN {mine}",
            resource_keys=f"v.resource_arn IN {mine} OR v.key_arn IN {mine}",
            accounts=accounts,
            coverage=f"{accounts} AND (coalesce(v.subject, '') = '' OR {owned('subject', 'account_id')})",
            changes=f"v.key_arn IN {mine} OR {owned('resource_arn', 'key_arn', 'account_id')}",
            findings=f"v.owner = {value}",
            findings_history=owned("resource_arn", "key_arn", "account_id"),
            vendor_checks=owned("subject", "key_arn", "account_id"),
            situation_findings=f"v.owner = {value} OR v.cause IN {mine}",
        )

    return Subject("owner", name, slug(name), selects, counts_passes=False)
