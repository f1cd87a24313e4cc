-- What became of each problem that a rule ever found (or could not exclude), also where the resource or the rule is gone since.
-- A time in which the rule could not tell, or a waiver applied, interrupts no failure; that it passes, does not apply or is gone
-- resolves it.
--! stored
--: rule_id | The rule.
--: resource_arn | The resource.
--: first_failed | When the run began that first saw it fail: of several failures with a pass between them, the last one.
--: last_seen | When the last run began that saw it fail.
--: resolved_at | When the run began that saw it pass, not apply or gone after it failed; empty while it fails.
--: reopened | How often it failed again after it was resolved.
--: since | When the run began that first saw it in its present status, however the reason was worded since; empty when it is gone.
WITH version AS (
  SELECT f.rule_id, f.resource_arn, f.status, f.verdict, f.valid_from,
    CASE WHEN f.valid_to <= as_of_run THEN f.valid_to END AS ended
  FROM ledger.finding f WHERE f.valid_from <= as_of_run
), placed AS (
  SELECT v.*, lag(v.status) OVER following AS status_before, lag(v.ended) OVER following AS ended_before,
    lead(v.valid_from) OVER following AS next_from
  FROM version v
  WINDOW following AS (PARTITION BY v.rule_id, v.resource_arn ORDER BY v.valid_from)
), event AS (
  SELECT p.rule_id, p.resource_arn, p.valid_from AS run_id, p.ended,
    CASE WHEN p.verdict <> 'unknown' THEN p.verdict = 'fail' END AS failing,
    p.status_before IS DISTINCT FROM p.status OR p.ended_before IS DISTINCT FROM p.valid_from AS turned
  FROM placed p
  UNION ALL
  SELECT p.rule_id, p.resource_arn, p.ended, p.ended, false, NULL
  FROM placed p
  WHERE p.ended IS NOT NULL AND p.next_from IS DISTINCT FROM p.ended
), turn AS (
  SELECT e.*,
    lag(e.failing IGNORE NULLS) OVER (PARTITION BY e.rule_id, e.resource_arn ORDER BY e.run_id) AS failing_before
  FROM event e
), summed AS (
  SELECT t.rule_id, t.resource_arn,
    max(t.run_id) FILTER (t.failing AND t.failing_before IS NOT TRUE) AS failed_run,
    count(*) FILTER (t.failing AND t.failing_before IS NOT TRUE) AS failures,
    max(t.run_id) FILTER (NOT t.failing AND t.failing_before) AS resolved_run,
    bool_or(t.failing AND t.ended IS NULL) AS fails_now,
    max(t.ended) FILTER (t.failing) AS failed_until,
    max(t.run_id) FILTER (t.turned) AS turned_run,
    bool_or(t.ended IS NULL) AS there
  FROM turn t
  GROUP BY t.rule_id, t.resource_arn
), night AS (
  SELECT r.run_id, r.started_at, lag(r.started_at) OVER (ORDER BY r.run_id) AS before_at FROM ledger.run r
)
SELECT s.rule_id, s.resource_arn, b.started_at AS first_failed,
  CASE WHEN s.fails_now THEN n.started_at ELSE l.before_at END AS last_seen,
  CASE WHEN s.resolved_run > s.failed_run THEN e.started_at END AS resolved_at,
  greatest(s.failures - 1, 0) AS reopened,
  CASE WHEN s.there THEN t.started_at END AS since
FROM summed s
LEFT JOIN ledger.run b ON b.run_id = s.failed_run
LEFT JOIN ledger.run e ON e.run_id = s.resolved_run
LEFT JOIN ledger.run t ON t.run_id = s.turned_run
LEFT JOIN ledger.run n ON n.run_id = as_of_run
LEFT JOIN night l ON l.run_id = s.failed_until
