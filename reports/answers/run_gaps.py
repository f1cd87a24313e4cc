"""What one of two runs could not see: it differs in nothing that can be told, and is never told as removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from reports.answers.version_diff import rows
from reports.mart.as_of import Moment
from reports.mart.change_event import place
from reports.mart.result_writers import printable

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Unknown:
    """Answers that are missing for one reason in one place."""

    account_id: str
    account_name: str | None
    region: str
    actions: list[str]
    """The IAM actions that were refused; empty when nothing at all was read there."""
    subjects: list[str]
    """ARNs or names that were asked for; empty when whole listings are missing."""
    start: str | None
    """Why it was not known in the first run; None: it was known."""
    end: str | None
    """Why it was not known in the second run; None: it was known."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "account_id": self.account_id,
            "account_name": self.account_name,
            "region": self.region,
            "actions": self.actions,
            "subjects": self.subjects,
            "from": self.start,
            "to": self.end,
        }

    def lines(self, indent: str) -> Iterator[str]:
        """For people."""
        what = ", ".join(self.actions) or "nothing was read"
        if self.subjects:
            shown = ", ".join(self.subjects[:_SHOWN])
            more = len(self.subjects) - _SHOWN
            what += f" of {shown}{f' and {more:,} more' if more > 0 else ''}"
        if self.start == self.end:
            why = f"in both runs, because {self.end}"
        else:
            why = "; ".join(
                f"in the {which} run, because {reason}"
                for which, reason in (("first", self.start), ("second", self.end))
                if reason
            )
        where = place(self.account_id, self.account_name, self.region)
        yield indent + printable(f"{where}: {what}: {why}")


def unknown(
    duck: duckdb.DuckDBPyConnection,
    start: Moment,
    end: Moment,
    keys: Sequence[str] | None,
    accounts: Sequence[str] | None,
) -> list[Unknown]:
    """What was not known in one of the runs, or both. Reads schema ``ledger`` of the catalog in use, the whole history.

    With ``keys``, only what is about them or about their whole account and region.
    """
    values: dict[str, Any] = {
        "start": start.run_id,
        "end": end.run_id,
        "keys": None if keys is None else list(keys),
        "accounts": None if accounts is None else list(accounts),
    }
    unread = [Unknown(**row) for row in rows(duck, _SCOPES, values)]
    scopes = {(one.account_id, one.region): one for one in unread}
    refused = [Unknown(**row) for row in rows(duck, _GAPS, values)]
    return sorted(
        [*unread, *(one for one in refused if not _told(one, scopes.get((one.account_id, one.region))))],
        key=lambda one: (one.account_id, one.region, one.actions, one.subjects),
    )


def _told(one: Unknown, scope: Unknown | None) -> bool:
    """Where nothing was read, each answer that is missing need not be told."""
    return scope is not None and bool(scope.start or not one.start) and bool(scope.end or not one.end)


_ONLY = """
  AND ($accounts IS NULL OR list_contains($accounts, account_id))
  AND ($keys IS NULL OR list_contains($keys, subject) OR (subject = '' AND EXISTS (
    FROM (SELECT unnest($keys) AS arn) WHERE split_part(arn, ':', 5) = account_id AND split_part(arn, ':', 4) = region
  )))
"""
_NAMED = """
(SELECT any_value(c.name) FROM internal.account c
  WHERE c.account_id = f.account_id AND internal.known(c.valid_from, c.valid_to, $end)) AS account_name
"""
_GAPS = f"""
WITH gap AS (
  SELECT g.*, coalesce(z.text, g.cause) AS reason FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE (internal.known(g.valid_from, g.valid_to, $start) OR internal.known(g.valid_from, g.valid_to, $end)){_ONLY}
), found AS (
  SELECT account_id, region, action, subject,
    any_value(reason) FILTER (internal.known(valid_from, valid_to, $start)) AS start,
    any_value(reason) FILTER (internal.known(valid_from, valid_to, $end)) AS "end"
  FROM gap
  GROUP BY account_id, region, service, operation, action, subject
)
SELECT account_id, {_NAMED}, region, actions,
  coalesce(list(subject ORDER BY subject) FILTER (subject <> ''), CAST([] AS VARCHAR[])) AS subjects, start, "end"
FROM (
  SELECT account_id, region, subject, start, "end", list_sort(list(DISTINCT action)) AS actions
  FROM found GROUP BY account_id, region, subject, start, "end"
) f
GROUP BY account_id, region, actions, start, "end"
"""
_SCOPES = f"""
WITH seen AS (
  SELECT run_id, account_id, region, '' AS subject, outcome, CASE
      WHEN outcome IN ('complete', 'partial') THEN NULL
      ELSE coalesce(reason, 'the account and region is ' || outcome)
    END AS reason
  FROM internal.scope_coverage WHERE run_id IN ($start, $end)
), account_region AS (
  SELECT DISTINCT account_id, region FROM seen WHERE outcome IN ('complete', 'partial', 'failed'){_ONLY}
), found AS (
  SELECT p.account_id, p.region,
    CASE WHEN s.outcome IS NULL OR s.reason IS NOT NULL THEN coalesce(s.reason, ws.reason, 'it was not crawled') END AS start,
    CASE WHEN e.outcome IS NULL OR e.reason IS NOT NULL THEN coalesce(e.reason, we.reason, 'it was not crawled') END AS "end"
  FROM account_region p
  LEFT JOIN seen s ON s.run_id = $start AND s.account_id = p.account_id AND s.region = p.region
  LEFT JOIN seen e ON e.run_id = $end AND e.account_id = p.account_id AND e.region = p.region
  LEFT JOIN seen ws ON ws.run_id = $start AND ws.account_id = p.account_id AND ws.region = '*'
  LEFT JOIN seen we ON we.run_id = $end AND we.account_id = p.account_id AND we.region = '*'
)
SELECT account_id, {_NAMED}, region, CAST([] AS VARCHAR[]) AS actions, CAST([] AS VARCHAR[]) AS subjects, start, "end"
FROM found f
WHERE start IS NOT NULL OR "end" IS NOT NULL
"""
