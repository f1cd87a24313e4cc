-- The share of account-regions that were read completely as of each of the runs $run_ids; a run that was limited to accounts or
-- regions has the others as earlier runs read them.
SELECT run_id, CAST(count(*) FILTER (outcome = 'complete') * 100 // count(*) AS INTEGER) AS coverage_percent
FROM internal.scope_coverage
WHERE run_id IN $run_ids AND internal.in_scope(outcome)
GROUP BY run_id
