-- Findings by rule over the latest $runs runs: each version of a count adds where it begins and subtracts where it ends.
WITH recent_run AS (
    SELECT run_id, started_at
    FROM runs
    WHERE status IN ('complete', 'partial') AND run_id >= (SELECT min(valid_from) FROM rule_results_history)
    ORDER BY run_id DESC
    LIMIT $runs
),
delta AS (
    SELECT rule_id, valid_from AS run_id, failed AS fail, unknown FROM rule_results_history
    UNION ALL
    SELECT rule_id, valid_to, -failed, -unknown FROM rule_results_history WHERE valid_to IS NOT NULL
),
summed AS (
    SELECT s.rule_id, n.run_id, sum(s.fail) AS fail, sum(s.unknown) AS unknown
    FROM delta AS s
    ASOF JOIN (
        -- The first of these runs at or after the change.
        SELECT run_id FROM recent_run
    ) AS n ON s.run_id <= n.run_id
    GROUP BY s.rule_id, n.run_id
),
counted_rules AS (
    SELECT rule_id, min(valid_from) AS first_seen_run, bool_or(valid_to IS NULL) AS is_current FROM rule_results_history GROUP BY rule_id
)
SELECT k.rule_id, n.run_id, n.started_at,
    CAST(coalesce(sum(p.fail) OVER running, 0) AS BIGINT) AS fail,
    CAST(coalesce(sum(p.unknown) OVER running, 0) AS BIGINT) AS unknown
FROM counted_rules AS k
JOIN recent_run AS n ON n.run_id >= k.first_seen_run
LEFT JOIN summed AS p ON p.rule_id = k.rule_id AND p.run_id = n.run_id
WHERE k.is_current
WINDOW running AS (PARTITION BY k.rule_id ORDER BY n.run_id)
ORDER BY k.rule_id, n.run_id
