-- The number of findings whose status changed in this run, by rule: new, reopened (resolved before), returned (waived or unknown
-- before, since an earlier failure), unknown, resolved.
SELECT rule_id, status_change, count(*) AS findings
FROM (
    SELECT rule_id, internal.status_change(status, first_failed, since, reopened) AS status_change
    FROM findings
    WHERE status IN ('fail', 'unknown') AND since = CAST($at AS TIMESTAMP)
    UNION ALL
    SELECT rule_id, 'resolved' FROM finding_lifecycle WHERE resolved_at = CAST($at AS TIMESTAMP)
)
GROUP BY rule_id, status_change
ORDER BY rule_id, list_position(['new', 'reopened', 'returned', 'unknown', 'resolved'], status_change)
