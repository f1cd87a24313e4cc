-- The findings that fail or are unknown since this run (see status_changes.sql): the $limit most severe per status change.
WITH changed AS (
    SELECT
        CASE
            WHEN status = 'unknown' THEN 'unknown'
            WHEN first_failed < since THEN 'returned'
            WHEN reopened > 0 THEN 'reopened'
            ELSE 'new'
        END AS status_change,
        rule_id, title, severity, resource_arn, resource_name, account_id, account_name, region, owner, reason,
        reopened
    FROM findings
    WHERE status IN ('fail', 'unknown') AND since = CAST($at AS TIMESTAMP)
)
SELECT *
FROM changed
QUALIFY row_number() OVER (
    PARTITION BY status_change
    ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity), title, rule_id, account_name, account_id,
        region, resource_name, resource_arn
) <= $limit
ORDER BY list_position(['new', 'reopened', 'returned', 'unknown', 'resolved'], status_change),
    list_position(['critical', 'high', 'medium', 'low', 'info'], severity), title, rule_id, account_name, account_id,
    region, resource_name, resource_arn
