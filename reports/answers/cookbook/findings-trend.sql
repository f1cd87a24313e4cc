-- title: Findings over time
-- topic: findings
-- question: >-
--   How many resources failed each rule after each run?
-- answer: >-
--   For each rule and run with a change: the open failures, and the failures opened and resolved in that run.
WITH change AS (
  SELECT rule_id, valid_from AS run_id, 1 AS step FROM findings_history WHERE status = 'fail'
  UNION ALL
  SELECT rule_id, valid_to, -1 FROM findings_history WHERE status = 'fail' AND valid_to IS NOT NULL
), stepped AS (
  SELECT rule_id, run_id, sum(step) AS change, count(*) FILTER (step = 1) AS opened, count(*) FILTER (step = -1) AS resolved
  FROM change
  GROUP BY rule_id, run_id
)
SELECT s.rule_id, s.run_id, r.started_at AS run_at, sum(s.change) OVER (PARTITION BY s.rule_id ORDER BY s.run_id) AS failing,
  s.opened, s.resolved
FROM stepped s
JOIN runs r ON r.run_id = s.run_id
ORDER BY s.rule_id, s.run_id
