-- The latest $runs runs, the first one first. A run that failed is listed: it has a place in a chart, but no value.
SELECT run_id, started_at, status IN ('complete', 'partial') AS finished,
    (SELECT min(valid_from) FROM internal.rule_result) AS first_evaluated
FROM (FROM runs WHERE status <> 'running' ORDER BY run_id DESC LIMIT $runs)
ORDER BY run_id
