-- How many findings turned in this run, by rule: new ones, ones that had been resolved (reopened), ones that had been waived or
-- unknown since they failed first (returned), ones that are unknown since this run, and resolved ones.
SELECT rule_id, moved, count(*) AS findings
FROM (
    SELECT rule_id,
        CASE
            WHEN status = 'unknown' THEN 'unknown'
            WHEN first_failed < since THEN 'returned'
            WHEN reopened > 0 THEN 'reopened'
            ELSE 'new'
        END AS moved
    FROM findings
    WHERE status IN ('fail', 'unknown') AND since = CAST($at AS TIMESTAMP)
    UNION ALL
    SELECT rule_id, 'resolved' FROM finding_lifecycle WHERE resolved_at = CAST($at AS TIMESTAMP)
)
GROUP BY rule_id, moved
ORDER BY rule_id, list_position(['new', 'reopened', 'returned', 'unknown', 'resolved'], moved)
