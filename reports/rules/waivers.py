"""Waivers: failures that are accepted until a date, loaded from files and applied to the results."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from models.settings import Settings, SettingsError
from models.settings.waivers import LocatedWaiver, read_waivers
from models.settings.yaml_loader import Problem, quoted
from reports.mart.extension import fill
from reports.rules.loader import Rule

WAIVER_RULES = frozenset({"waiver-expired", "waiver-unused"})
"""The rules about waivers."""

# A pattern without wildcards is looked up; only patterns with wildcards are compared with each problem of their rule.
_MATCHES = r"""
CREATE OR REPLACE TEMP TABLE waiver_match AS
WITH problem AS (
  SELECT v.rule, v.subject, v.unwaived_status, coalesce(l.account_id, v.unlisted ->> 'account_id') AS account_id, j.rule_id,
    coalesce(s.resource_arn, v.unlisted ->> 'resource_arn') AS arn, s.resource_name AS name
  FROM internal.verdict v
  JOIN internal.rule_run j ON j.rule = v.rule AND j.rule_id IN (SELECT rule_id FROM internal.waiver)
  LEFT JOIN internal.resource_dim s ON s.subject = v.subject
  LEFT JOIN internal.account_region_dim l ON l.account_region = v.account_region
  WHERE v.unwaived_status IN ('fail', 'unknown')
), literal AS (
  SELECT * FROM internal.waiver WHERE NOT regexp_matches(resource, '[*?\[]')
), pattern AS (
  SELECT * FROM internal.waiver WHERE regexp_matches(resource, '[*?\[]')
), matched AS (
  SELECT p.*, w.waiver FROM problem p JOIN literal w ON w.rule_id = p.rule_id AND w.resource = p.arn
  UNION
  SELECT p.*, w.waiver FROM problem p JOIN literal w ON w.rule_id = p.rule_id AND w.resource = p.name
  UNION
  SELECT p.*, w.waiver FROM problem p JOIN pattern w ON w.rule_id = p.rule_id
    AND (p.arn GLOB w.resource OR p.name GLOB w.resource)
)
SELECT m.rule, m.subject, m.arn, m.unwaived_status, w.waiver, w.expires,
  w.expires >= CAST(r.started_at AS DATE) AND (m.unwaived_status = 'fail' OR w.include_unknown) AS applies
FROM matched m
JOIN internal.waiver w ON w.waiver = m.waiver AND (w.account_id IS NULL OR w.account_id = m.account_id)
JOIN internal.run r ON r.run_id = $run
"""
_COUNTS = """
UPDATE internal.waiver SET run_id = $run,
  waived_count = (SELECT count(*) FROM waiver_match m WHERE m.waiver = internal.waiver.waiver AND m.applies),
  unknown_count = (SELECT count(*) FROM waiver_match m WHERE m.waiver = internal.waiver.waiver AND m.unwaived_status = 'unknown')
WHERE rule_id IN (SELECT rule_id FROM internal.rule_run)
"""
# If several waivers match, the one that expires last applies.
_APPLIED = """
UPDATE internal.verdict v SET status = 'waived', waiver = w.waiver,
  reason = 'Waived until ' || strftime(w.expires, '%Y-%m-%d') || ' (' || concat_ws(', ', w.owner, w.ticket) || '): '
    || w.reason || CASE WHEN regexp_matches(w.reason, '[.!?]$') THEN '' ELSE '.' END || ' The rule reports: ' || v.reason
FROM (
  SELECT m.rule, m.subject, m.arn, max((m.expires, m.waiver))[2] AS waiver FROM waiver_match m WHERE m.applies
  GROUP BY m.rule, m.subject, m.arn
) m JOIN internal.waiver w ON w.waiver = m.waiver
WHERE v.rule = m.rule AND {join}
"""


def load_waivers(settings: Settings, rules: Iterable[Rule]) -> list[LocatedWaiver]:
    """The waivers of all files. Raises SettingsError for invalid files, duplicate waivers and unknown rules.

    ``rules`` are the rules in force; waivers of disabled rules are valid.
    """
    waivers = read_waivers(settings.rules.waivers)
    known = {rule.rule_id for rule in rules} | set(settings.rules.disable)
    problems = []
    for entry in waivers:
        if entry.waiver.rule not in known:
            expected = "the ID of a rule (kmsledger rules list)"
        elif entry.waiver.rule in WAIVER_RULES:
            expected = "another rule: the rules about waivers cannot be waived"
        else:
            continue
        problems.append(Problem(entry.file, entry.line, entry.column, "rule", quoted(entry.waiver.rule), expected))
    if problems:
        raise SettingsError(problems)
    return waivers


def prepare(duck: duckdb.DuckDBPyConnection, settings: Settings, rules: Iterable[Rule]) -> None:
    """Fill ``internal.waiver`` and ``internal.owner`` from the settings. Raises SettingsError."""
    waivers = (
        {
            "waiver": entry.waiver.name,
            "rule_id": entry.waiver.rule,
            "resource": entry.waiver.resource,
            "account_id": entry.waiver.account,
            "reason": entry.waiver.reason,
            "ticket": entry.waiver.ticket,
            "owner": entry.waiver.owner,
            "expires": entry.waiver.expires.isoformat(),
            "include_unknown": entry.waiver.include_unknown,
            "source": f"{entry.file}:{entry.line}",
        }
        for entry in load_waivers(settings, rules)
    )
    owners = (
        {"position": position, "tag": entry.tag, "account_id": account, "ou": entry.ou, "owner": entry.owner}
        for position, entry in enumerate(settings.owners)
        for account in entry.account or (None,)
    )
    fill(duck, "waiver", waivers)
    fill(duck, "owner", owners)


def apply(duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Set the status of matching results to ``waived``, and count the matches of each waiver."""
    duck.execute(_MATCHES, {"run": run_id})
    duck.execute(_COUNTS, {"run": run_id})
    for join in ("v.subject = m.subject", "m.subject IS NULL AND (v.unlisted ->> 'resource_arn') = m.arn"):
        duck.execute(_APPLIED.format(join=join))
    duck.execute("DROP TABLE waiver_match")
