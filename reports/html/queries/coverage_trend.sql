-- The account-regions that each of the runs $run_ids had to read, and those that it read completely.
SELECT run_id,
    count(*) FILTER (WHERE outcome = 'complete') AS complete,
    count(*) FILTER (WHERE outcome IN ('complete', 'partial', 'failed')) AS in_scope
FROM internal.scope_coverage
WHERE run_id IN $run_ids
GROUP BY run_id
