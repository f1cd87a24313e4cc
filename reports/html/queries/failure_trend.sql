-- By how many the open failures grew or shrank between the runs $run_ids: by severity, and for the keys that are at risk. Each
-- version of a finding adds where it begins and subtracts where it ends.
WITH failure AS (
    SELECT unnest(CASE rule_id WHEN $risk_rule THEN [severity, 'at_risk'] ELSE [severity] END) AS series, valid_from, valid_to
    FROM findings_history
    WHERE status = 'fail'
),
delta AS (
    SELECT series, valid_from AS run_id, count(*) AS failures FROM failure GROUP BY ALL
    UNION ALL
    SELECT series, valid_to, -count(*) FROM failure WHERE valid_to IS NOT NULL GROUP BY ALL
)
SELECT d.series, r.run_id, CAST(sum(d.failures) AS BIGINT) AS failures
FROM delta AS d
-- The first of these runs at or after the change.
ASOF JOIN (SELECT unnest($run_ids) AS run_id) AS r ON d.run_id <= r.run_id
GROUP BY d.series, r.run_id
