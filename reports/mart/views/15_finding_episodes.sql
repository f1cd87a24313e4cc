-- The status changes of each problem that a rule ever found or could not rule out, as run IDs; finding_lifecycle has them as times.
-- An unknown or waived status does not interrupt a failure. A pass, not_applicable, or the deletion of the resource resolves it.
--! internal
--! stored
--: rule_id | The rule.
--: resource_arn | The resource.
--: first_failed_run | The run that first saw the latest failure: of several failures with a pass in between, the last one.
--: failure_count | How often a failure began.
--: resolved_run | The run that last saw it resolved: pass, not_applicable or deleted after a failure.
--: is_failing | Whether it fails in the run, waived or not.
--: failed_until | The run that saw the last failure end.
--: status_changed_run | The run that saw it reach its current status.
--: status | The status in the run: pass, fail, unknown, not_applicable or waived; NULL if it no longer exists.
WITH version AS (
  SELECT f.rule_id, f.resource_arn, f.status, f.unwaived_status, f.valid_from,
    CASE WHEN f.valid_to <= as_of_run THEN f.valid_to END AS ended
  FROM internal.finding f WHERE f.valid_from <= as_of_run
), placed AS (
  SELECT v.*, lag(v.status) OVER following AS status_before, lag(v.ended) OVER following AS ended_before,
    lead(v.valid_from) OVER following AS next_from
  FROM version v
  WINDOW following AS (PARTITION BY v.rule_id, v.resource_arn ORDER BY v.valid_from)
), event AS (
  SELECT p.rule_id, p.resource_arn, p.valid_from AS run_id, p.ended, p.status,
    CASE WHEN p.unwaived_status <> 'unknown' THEN p.unwaived_status = 'fail' END AS failing,
    p.status_before IS DISTINCT FROM p.status OR p.ended_before IS DISTINCT FROM p.valid_from AS turned
  FROM placed p
  UNION ALL
  SELECT p.rule_id, p.resource_arn, p.ended, p.ended, NULL, false, NULL
  FROM placed p
  WHERE p.ended IS NOT NULL AND p.next_from IS DISTINCT FROM p.ended
), turn AS (
  SELECT e.*,
    lag(e.failing IGNORE NULLS) OVER (PARTITION BY e.rule_id, e.resource_arn ORDER BY e.run_id) AS failing_before
  FROM event e
)
SELECT t.rule_id, t.resource_arn,
  max(t.run_id) FILTER (t.failing AND t.failing_before IS NOT TRUE) AS first_failed_run,
  count(*) FILTER (t.failing AND t.failing_before IS NOT TRUE) AS failure_count,
  max(t.run_id) FILTER (NOT t.failing AND t.failing_before) AS resolved_run,
  bool_or(t.failing AND t.ended IS NULL) AS is_failing,
  max(t.ended) FILTER (t.failing) AS failed_until,
  max(t.run_id) FILTER (t.turned) AS status_changed_run,
  any_value(t.status) FILTER (t.ended IS NULL) AS status
FROM turn t
GROUP BY t.rule_id, t.resource_arn
