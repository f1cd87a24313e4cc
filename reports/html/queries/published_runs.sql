-- The runs with their coverage and findings, for the index page of the published reports.
WITH scope AS (
    SELECT run_id,
        count(*) FILTER (outcome = 'complete') AS complete,
        count(*) FILTER (outcome IN ('complete', 'partial', 'failed')) AS in_scope
    FROM internal.scope_coverage
    GROUP BY run_id
),
finding AS (
    SELECT r.run_id, CAST(sum(h.failed) AS BIGINT) AS failed, CAST(sum(h.unknown) AS BIGINT) AS unknown
    FROM runs AS r
    JOIN rule_results_history AS h ON h.valid_from <= r.run_id AND (h.valid_to IS NULL OR h.valid_to > r.run_id)
    GROUP BY r.run_id
)
SELECT r.run_id, r.started_at, r.finished_at, r.status, r.gaps, coalesce(s.complete, 0) AS complete,
    coalesce(s.in_scope, 0) AS in_scope, f.failed, f.unknown
FROM runs AS r
LEFT JOIN scope AS s USING (run_id)
LEFT JOIN finding AS f USING (run_id)
