-- The turns that each problem took that a rule ever found (or could not exclude), as runs; finding_lifecycle tells them as times.
-- A time in which the rule could not tell, or a waiver applied, interrupts no failure; that it passes, does not apply or is gone
-- resolves it.
--! internal
--! stored
--: rule_id | The rule.
--: resource_arn | The resource.
--: first_failed_run | The run that first saw it fail: of several failures with a pass between them, the last one.
--: failure_count | How often it began to fail.
--: resolved_run | The run that saw it resolved last: pass, not apply or gone after it failed.
--: is_failing | Whether it fails in the run (a waiver may accept that).
--: failed_until | The run that saw its last failure end.
--: status_changed_run | The run that saw it reach its last status.
--: status | pass, fail, unknown, not_applicable or waived: what the run says of it; empty when it is gone.
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
