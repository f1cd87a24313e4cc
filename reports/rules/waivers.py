"""Waivers: failures that are accepted until a date, loaded from files and applied to the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
WITH named AS (
  SELECT resource_arn, name FROM resources
  UNION ALL SELECT key_arn, coalesce(alias, key_id) FROM keys
  UNION ALL SELECT alias_arn, alias_name FROM aliases
  UNION ALL SELECT account_id, coalesce(name, account_id) FROM accounts
), problem AS (
  SELECT f.rule_id, f.resource_arn, f.account_id, f.key_arn, f.unwaived_status, n.name
  FROM memory.main.current_finding f
  LEFT JOIN named n ON n.resource_arn = f.resource_arn
  WHERE f.unwaived_status IN ('fail', 'unknown') AND f.rule_id IN (SELECT rule_id FROM internal.waiver)
), literal AS (
  SELECT * FROM internal.waiver WHERE NOT regexp_matches(resource, '[*?\[]')
), pattern AS (
  SELECT * FROM internal.waiver WHERE regexp_matches(resource, '[*?\[]')
), matched AS (
  SELECT p.*, w.waiver FROM problem p JOIN literal w ON w.rule_id = p.rule_id AND w.resource = p.resource_arn
  UNION
  SELECT p.*, w.waiver FROM problem p JOIN literal w ON w.rule_id = p.rule_id AND w.resource = p.name
  UNION
  SELECT p.*, w.waiver FROM problem p JOIN pattern w ON w.rule_id = p.rule_id
    AND (p.resource_arn GLOB w.resource OR p.name GLOB w.resource)
)
SELECT m.rule_id, m.resource_arn, m.unwaived_status, w.waiver, w.expires,
  w.expires >= CAST(r.started_at AS DATE) AND (m.unwaived_status = 'fail' OR w.include_unknown) AS applies
FROM matched m
LEFT JOIN keys k ON k.key_arn = m.key_arn
JOIN internal.waiver w ON w.waiver = m.waiver AND internal.selects(coalesce(w.tag, ''), coalesce(w.description, ''),
  coalesce(w.account_id, ''), k.tags, k.description, m.account_id)
JOIN internal.run r ON r.run_id = $run
"""
_COUNTS = """
UPDATE internal.waiver SET run_id = $run,
  waived_count = (SELECT count(*) FROM waiver_match m WHERE m.waiver = internal.waiver.waiver AND m.applies),
  unknown_count = (SELECT count(*) FROM waiver_match m WHERE m.waiver = internal.waiver.waiver AND m.unwaived_status = 'unknown')
WHERE list_contains($rules, rule_id)
"""
# If several waivers match, the one that expires last applies.
_APPLIED = """
UPDATE memory.main.result f SET status = 'waived', waiver = w.waiver,
  reason = 'Waived until ' || strftime(w.expires, '%Y-%m-%d') || ' (' || concat_ws(', ', w.owner, w.ticket) || '): '
    || w.reason || CASE WHEN regexp_matches(w.reason, '[.!?]$') THEN '' ELSE '.' END || ' The rule reports: ' || f.reason
FROM (
  SELECT m.rule_id, m.resource_arn, max((m.expires, m.waiver))[2] AS waiver FROM waiver_match m WHERE m.applies
  GROUP BY m.rule_id, m.resource_arn
) m JOIN internal.waiver w ON w.waiver = m.waiver
WHERE f.rule_id = m.rule_id AND f.resource_arn = m.resource_arn
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
            **entry.waiver.model_dump(mode="json", exclude={"id", "rule", "account"}),
            "waiver": entry.waiver.name,
            "rule_id": entry.waiver.rule,
            "account_id": entry.waiver.account,
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


def apply(duck: duckdb.DuckDBPyConnection, run_id: int, rules: Sequence[str]) -> None:
    """Set the status of matching findings to ``waived``, and count the matches of each waiver of these rules."""
    if duck.execute("SELECT 1 FROM internal.waiver LIMIT 1").fetchone() is None:
        return
    duck.execute(_MATCHES, {"run": run_id})
    duck.execute(_COUNTS, {"run": run_id, "rules": rules})
    duck.execute(_APPLIED)
    duck.execute("DROP TABLE waiver_match")
