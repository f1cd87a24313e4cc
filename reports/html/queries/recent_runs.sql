-- The latest $runs runs, the first one first. A run that failed is listed: it has a place in a chart, but no value. The coverage of
-- a run is the share of its account-regions that were read completely.
SELECT r.run_id, r.started_at, r.status IN ('complete', 'partial') AS finished,
    count(*) FILTER (WHERE c.outcome = 'complete') AS complete,
    count(*) FILTER (WHERE c.outcome IN ('complete', 'partial', 'failed')) AS in_scope,
    (SELECT min(valid_from) FROM rule_results_history) AS first_evaluated
FROM (FROM runs WHERE status <> 'running' ORDER BY run_id DESC LIMIT $runs) AS r
LEFT JOIN internal.scope_coverage AS c ON c.run_id = r.run_id
GROUP BY r.run_id, r.started_at, r.status
ORDER BY r.run_id
