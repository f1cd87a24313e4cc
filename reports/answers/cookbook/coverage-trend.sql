-- title: Coverage over time
-- topic: coverage
-- question: >-
--   How much did each run read, and what did it miss that the run before had read?
-- answer: >-
--   For each run: its coverage and the change from the run before in percentage points, and the account-regions that it lost (read
--   completely by the run before, but not by this one) and regained. An account that could not be entered loses all of its
--   account-regions. In the first run, changes are unknown (NULL).
WITH complete AS (
  SELECT run_id, account_id, region FROM internal.scope_coverage WHERE outcome = 'complete' AND region <> '*'
), run AS (
  SELECT run_id, started_at, account_regions, complete, coverage_percent, lag(run_id) OVER (ORDER BY run_id) AS previous,
    coverage_percent - lag(coverage_percent) OVER (ORDER BY run_id) AS change
  FROM run_coverage JOIN runs USING (run_id)
  WHERE status IN ('complete', 'partial')
), lost AS (
  SELECT r.run_id, count(*) AS n
  FROM run r JOIN complete p ON p.run_id = r.previous
  WHERE NOT EXISTS (SELECT 1 FROM complete c WHERE c.run_id = r.run_id AND c.account_id = p.account_id AND c.region = p.region)
    AND EXISTS (
      SELECT 1 FROM internal.scope_coverage s
      WHERE s.run_id = r.run_id AND s.account_id = p.account_id AND s.region IN (p.region, '*') AND internal.in_scope(s.outcome)
    )
  GROUP BY r.run_id
), regained AS (
  SELECT r.run_id, count(*) AS n
  FROM run r JOIN complete c ON c.run_id = r.run_id
  WHERE EXISTS (
    SELECT 1 FROM internal.scope_coverage s
    WHERE s.run_id = r.previous AND s.account_id = c.account_id AND s.region IN (c.region, '*') AND s.outcome IN ('partial', 'failed')
  )
  GROUP BY r.run_id
)
SELECT r.run_id, r.started_at AS run_at, r.coverage_percent, r.change, r.account_regions, r.complete,
  CASE WHEN r.previous IS NOT NULL THEN coalesce(l.n, 0) END AS lost,
  CASE WHEN r.previous IS NOT NULL THEN coalesce(g.n, 0) END AS regained
FROM run r
LEFT JOIN lost l USING (run_id)
LEFT JOIN regained g USING (run_id)
ORDER BY r.run_id
