"""What one of two runs could not read. It cannot be compared, so it is never reported as removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from models.safe_text import printable
from reports.answers.change_event import fields_of, format_account_region
from reports.mart.as_of import RunRef
from reports.mart.rows import rows

_MAX_SUBJECTS = 3


@dataclass(frozen=True, slots=True)
class RunGap:
    """Calls of one account-region that failed for one reason."""

    account_id: str
    account_name: str | None
    region: str
    actions: list[str]
    """The IAM actions that failed; empty if nothing was read in the account-region."""
    subjects: list[str]
    """The ARNs or names in the failed calls; empty if whole listings are missing."""
    start: str | None
    """Why the data is unknown in the first run; None if it is known."""
    end: str | None
    """Why the data is unknown in the second run; None if it is known."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {{"start": "from", "end": "to"}.get(name, name): raw for name, raw in fields_of(self).items()}

    def text_line(self, indent: str) -> str:
        """One line for a terminal."""
        what = ", ".join(self.actions) or "nothing was read"
        if self.subjects:
            subjects = ", ".join(self.subjects[:_MAX_SUBJECTS])
            hidden = len(self.subjects) - _MAX_SUBJECTS
            what += f" of {subjects}{f' and {hidden:,} more' if hidden > 0 else ''}"
        if self.start == self.end:
            why = f"in both runs: {self.end}"
        else:
            why = "; ".join(
                f"in the {ordinal} run: {reason}"
                for ordinal, reason in (("first", self.start), ("second", self.end))
                if reason
            )
        scope = format_account_region(self.account_id, self.account_name, self.region)
        return indent + printable(f"{scope}: {what}: {why}")


def find_run_gaps(
    duck: duckdb.DuckDBPyConnection,
    start: RunRef,
    end: RunRef,
    keys: Sequence[str] | None,
    accounts: Sequence[str] | None,
) -> list[RunGap]:
    """What is unknown in one of the runs, or both. Reads schema ``internal`` of the catalog in use, with the full history.

    With ``keys``, only the gaps of these keys and of their account-regions.
    """
    values: dict[str, Any] = {
        "start": start.run_id,
        "end": end.run_id,
        "keys": None if keys is None else list(keys),
        "accounts": None if accounts is None else list(accounts),
    }
    unread_scopes = [RunGap(**row) for row in rows(duck, _SCOPES, values)]
    by_scope = {(gap.account_id, gap.region): gap for gap in unread_scopes}
    call_gaps = [RunGap(**row) for row in rows(duck, _GAPS, values)]
    return sorted(
        [
            *unread_scopes,
            *(gap for gap in call_gaps if not _is_covered(gap, by_scope.get((gap.account_id, gap.region)))),
        ],
        key=lambda gap: (gap.account_id, gap.region, gap.actions, gap.subjects),
    )


def _is_covered(gap: RunGap, scope: RunGap | None) -> bool:
    """Whether the gap of the whole account-region already reports the gap of a call."""
    return scope is not None and bool(scope.start or not gap.start) and bool(scope.end or not gap.end)


_FILTER = """
  AND ($accounts IS NULL OR list_contains($accounts, account_id))
  AND ($keys IS NULL OR list_contains($keys, subject) OR (subject = '' AND EXISTS (
    FROM (SELECT unnest($keys) AS arn) WHERE split_part(arn, ':', 5) = account_id AND split_part(arn, ':', 4) = region
  )))
"""
_ACCOUNT_NAME = """
(SELECT any_value(c.name) FROM internal.account c
  WHERE c.account_id = f.account_id AND internal.known(c.valid_from, c.valid_to, $end)) AS account_name
"""
_GAPS = f"""
WITH gap AS (
  SELECT g.*, coalesce(z.text, g.cause) AS reason FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE (internal.known(g.valid_from, g.valid_to, $start) OR internal.known(g.valid_from, g.valid_to, $end)){_FILTER}
), by_subject AS (
  SELECT account_id, region, action, subject,
    min(reason) FILTER (internal.known(valid_from, valid_to, $start)) AS start,
    min(reason) FILTER (internal.known(valid_from, valid_to, $end)) AS "end"
  FROM gap
  GROUP BY account_id, region, service, operation, action, subject
)
SELECT account_id, {_ACCOUNT_NAME}, region, actions,
  coalesce(list(subject ORDER BY subject) FILTER (subject <> ''), CAST([] AS VARCHAR[])) AS subjects, start, "end"
FROM (
  SELECT account_id, region, subject, start, "end", list_sort(list(DISTINCT action)) AS actions
  FROM by_subject GROUP BY account_id, region, subject, start, "end"
) f
GROUP BY account_id, region, actions, start, "end"
"""
_SCOPES = f"""
WITH seen AS (
  SELECT run_id, account_id, region, '' AS subject, outcome, CASE
      WHEN outcome IN ('complete', 'partial') THEN NULL
      ELSE coalesce(reason, 'the account-region is ' || outcome)
    END AS reason
  FROM internal.scope_coverage WHERE run_id IN ($start, $end)
), account_region AS (
  SELECT DISTINCT account_id, region FROM seen WHERE outcome IN ('complete', 'partial', 'failed'){_FILTER}
), reasons AS (
  SELECT p.account_id, p.region,
    CASE WHEN s.outcome IS NULL OR s.reason IS NOT NULL THEN coalesce(s.reason, ws.reason, 'it was not crawled') END AS start,
    CASE WHEN e.outcome IS NULL OR e.reason IS NOT NULL THEN coalesce(e.reason, we.reason, 'it was not crawled') END AS "end"
  FROM account_region p
  LEFT JOIN seen s ON s.run_id = $start AND s.account_id = p.account_id AND s.region = p.region
  LEFT JOIN seen e ON e.run_id = $end AND e.account_id = p.account_id AND e.region = p.region
  LEFT JOIN seen ws ON ws.run_id = $start AND ws.account_id = p.account_id AND ws.region = '*'
  LEFT JOIN seen we ON we.run_id = $end AND we.account_id = p.account_id AND we.region = '*'
)
SELECT account_id, {_ACCOUNT_NAME}, region, CAST([] AS VARCHAR[]) AS actions, CAST([] AS VARCHAR[]) AS subjects, start, "end"
FROM reasons f
WHERE start IS NOT NULL OR "end" IS NOT NULL
"""
