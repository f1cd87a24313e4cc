-- The history of each problem that a rule ever found or could not rule out, even if the resource or rule no longer exists.
-- An unknown or waived status does not interrupt a failure. A pass, not_applicable, or the deletion of the resource resolves it.
--: rule_id | The rule.
--: resource_arn | The resource.
--: status | The status in the run: pass, fail, unknown, not_applicable or waived; NULL if it no longer exists.
--: first_failed | When the latest failure was first seen (start of the run): of several failures with a pass in between, the last one.
--: last_seen | When the failure was last seen (start of the run).
--: resolved_at | When it was first seen resolved (start of the run): passing, not applicable or deleted; NULL while it fails.
--: reopened | How often it failed again after it was resolved.
--: since | When the current status was first seen (start of the run), even if the reason was reworded later; NULL if it no longer exists.
WITH ordered_run AS (
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
LEFT JOIN ordered_run l ON l.run_id = s.failed_until
