-- How much each run read: its account-regions in scope, which were crawled or should have been, by outcome.
--: run_id | The run.
--: account_regions | The account-regions in scope; an account that could not be entered counts as one.
--: complete | Of these, the ones that were read completely.
--: partial | Those that were read with gaps.
--: failed | Those of which nothing could be read.
--: coverage_percent | The share that was read completely, in percent, rounded down; NULL if nothing was in scope.
SELECT run_id,
  count(*) AS account_regions,
  count(*) FILTER (outcome = 'complete') AS complete,
  count(*) FILTER (outcome = 'partial') AS partial,
  count(*) FILTER (outcome = 'failed') AS failed,
  CAST(count(*) FILTER (outcome = 'complete') * 100 // count(*) AS INTEGER) AS coverage_percent
FROM internal.scope_coverage
WHERE run_id <= as_of_run AND read_run_id IS NULL AND internal.in_scope(outcome)
GROUP BY run_id
