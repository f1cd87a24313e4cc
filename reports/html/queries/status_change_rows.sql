-- The findings that fail or are unknown since this run (see status_changes.sql): the $limit most severe per status change, each
-- with its situation, if it belongs to one.
WITH changed AS (
    SELECT
        internal.status_change(status, first_failed, since, reopened) AS status_change,
        rule_id, title, severity, resource_arn, resource_name, account_id, account_name, region, owner, reason,
        reopened
    FROM findings
    WHERE status IN ('fail', 'unknown') AND since = CAST($at AS TIMESTAMP)
),
page AS (
    SELECT *
    FROM changed
    QUALIFY row_number() OVER (
        PARTITION BY status_change
        ORDER BY internal.severity_rank(severity), title, rule_id, account_name, account_id,
            region, resource_name, resource_arn
    ) <= $limit
)
SELECT page.*, s.situation_id
FROM page
LEFT JOIN situation_findings AS s ON s.rule_id = page.rule_id AND s.resource_arn = page.resource_arn
ORDER BY list_position(['new', 'reopened', 'returned', 'unknown', 'resolved'], page.status_change),
    internal.severity_rank(page.severity), page.title, page.rule_id, page.account_name,
    page.account_id, page.region, page.resource_name, page.resource_arn
