-- How much each run read: its account-regions in scope, which were crawled or should have been, by outcome.
--: run_id | The run.
--: account_regions | The account-regions in scope. An account that could not be entered counts as many as the last run that entered it had there, and as one if no run has entered it yet.
--: complete | Of these, the ones that were read completely.
--: partial | Those that were read with gaps.
--: failed | Those of which nothing could be read.
--: coverage_percent | The share that was read completely, in percent, rounded down; NULL if nothing was in scope.
WITH scope AS (
  SELECT run_id, account_id, region, outcome, read_run_id FROM internal.scope_coverage
  WHERE run_id <= as_of_run AND internal.in_scope(outcome)
), entered AS (
  SELECT account_id, run_id, count(*) AS regions
  FROM scope SEMI JOIN (SELECT account_id FROM scope WHERE region = '*') USING (account_id)
  WHERE region NOT IN ('*', 'organization')
  GROUP BY account_id, run_id
), weighed AS (
  SELECT s.run_id, s.outcome, CASE WHEN s.region = '*' THEN coalesce(e.regions, 1) ELSE 1 END AS weight
  FROM scope s
  ASOF LEFT JOIN entered e ON s.account_id = e.account_id AND s.run_id > e.run_id
  WHERE s.read_run_id IS NULL
)
SELECT run_id,
  CAST(sum(weight) AS BIGINT) AS account_regions,
  CAST(coalesce(sum(weight) FILTER (outcome = 'complete'), 0) AS BIGINT) AS complete,
  CAST(coalesce(sum(weight) FILTER (outcome = 'partial'), 0) AS BIGINT) AS partial,
  CAST(coalesce(sum(weight) FILTER (outcome = 'failed'), 0) AS BIGINT) AS failed,
  CAST(coalesce(sum(weight) FILTER (outcome = 'complete'), 0) * 100 // sum(weight) AS INTEGER) AS coverage_percent
FROM weighed
GROUP BY run_id
