-- The runs with their coverage and findings, for the index page of the published reports.
WITH finding AS (
    SELECT r.run_id, CAST(sum(h.failed) AS BIGINT) AS failed, CAST(sum(h.unknown) AS BIGINT) AS unknown
    FROM runs AS r
    JOIN rule_results_history AS h ON h.valid_from <= r.run_id AND (h.valid_to IS NULL OR h.valid_to > r.run_id)
    GROUP BY r.run_id
)
SELECT r.run_id, r.started_at, r.finished_at, r.status, r.gaps, coalesce(s.complete, 0) AS complete,
    coalesce(s.account_regions, 0) AS in_scope, f.failed, f.unknown
FROM runs AS r
LEFT JOIN run_coverage AS s USING (run_id)
LEFT JOIN finding AS f USING (run_id)
