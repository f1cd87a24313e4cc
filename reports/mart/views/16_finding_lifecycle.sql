-- What became of each problem that a rule ever found (or could not exclude), also where the resource or the rule is gone since.
-- A time in which the rule could not tell, or a waiver applied, interrupts no failure; that it passes, does not apply or is gone
-- resolves it.
--: rule_id | The rule.
--: resource_arn | The resource.
--: status | pass, fail, unknown, not_applicable or waived: what the run says of it; empty when it is gone.
--: first_failed | When the run began that first saw it fail: of several failures with a pass between them, the last one.
--: last_seen | When the last run began that saw it fail.
--: resolved_at | When the run began that saw it pass, not apply or gone after it failed; empty while it fails.
--: reopened | How often it failed again after it was resolved.
--: since | When the run began that first saw it in its present status, however the reason was worded since; empty when it is gone.
WITH night AS (
  SELECT r.run_id, r.started_at, lag(r.started_at) OVER (ORDER BY r.run_id) AS before_at FROM internal.run r
)
SELECT s.rule_id, s.resource_arn, s.status, b.started_at AS first_failed,
  CASE WHEN s.is_failing THEN n.started_at ELSE l.before_at END AS last_seen,
  CASE WHEN s.resolved_run > s.first_failed_run THEN e.started_at END AS resolved_at,
  greatest(s.failure_count - 1, 0) AS reopened,
  CASE WHEN s.status IS NOT NULL THEN t.started_at END AS since
FROM internal.finding_episodes_as_of(as_of_run) s
LEFT JOIN internal.run b ON b.run_id = s.first_failed_run
LEFT JOIN internal.run e ON e.run_id = s.resolved_run
LEFT JOIN internal.run t ON t.run_id = s.status_changed_run
LEFT JOIN internal.run n ON n.run_id = as_of_run
LEFT JOIN night l ON l.run_id = s.failed_until
