-- The failed, unknown and waived findings to list: at most $per_rule per rule and status, the most severe first; in a rule, those
-- that changed in this run first, then the oldest. Only what identifies them: the texts of millions need too much memory.
WITH ranked AS (
    SELECT rule_id, resource_arn, severity, status,
        $compare AND since = CAST($at AS TIMESTAMP)
            AND internal.status_change(status, first_failed, since, reopened) IS NOT NULL AS is_change,
        row_number() OVER (
            PARTITION BY rule_id, status
            ORDER BY (since = CAST($at AS TIMESTAMP)) IS NOT TRUE, first_failed, since, account_id, region, resource_arn
        ) AS position
    FROM findings
    WHERE status IN ('fail', 'unknown', 'waived')
), listed AS MATERIALIZED (
    SELECT rule_id, resource_arn, internal.severity_rank(severity) AS rank, list_position(['fail', 'unknown', 'waived'], status) AS kind,
        is_change IS NOT TRUE AS is_old, position
    FROM ranked
    WHERE position <= $per_rule
    ORDER BY rank, kind, is_old, rule_id, position
    LIMIT $limit
)
SELECT rule_id, resource_arn,
    CASE
        WHEN resource_arn IN (SELECT key_arn FROM keys) THEN 'key-' || resource_arn
        WHEN resource_arn IN (SELECT resource_arn FROM resource_keys) THEN 'resource-' || resource_arn
        WHEN regexp_matches(resource_arn, '^[0-9]{12}') THEN 'account-' || left(resource_arn, 12)
    END AS place
FROM listed
ORDER BY rank, kind, is_old, rule_id, position
