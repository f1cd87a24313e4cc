-- The failed, unknown and waived findings: at most $limit per rule and status, in the order of $rules,
-- those of this run first, then the oldest.
WITH open AS (
    SELECT *,
        CASE WHEN since = CAST($at AS TIMESTAMP) THEN
            CASE
                WHEN status = 'unknown' THEN 'unknown'
                WHEN status = 'fail' AND first_failed < since THEN 'returned'
                WHEN status = 'fail' AND reopened > 0 THEN 'reopened'
                WHEN status = 'fail' THEN 'new'
            END
        END AS status_change,
        CASE WHEN status = 'unknown' THEN date_diff('day', since, CAST($at AS TIMESTAMP)) ELSE age_days END AS open_days
    FROM findings
    WHERE rule_id IN (SELECT unnest($rules)) AND status IN ('fail', 'unknown', 'waived')
), listed AS (
    -- Not a window function: it would hold the texts of millions of findings in memory.
    SELECT unnest(arg_min(o, {
        'earlier': (since = CAST($at AS TIMESTAMP)) IS NOT TRUE, 'first_failed': first_failed, 'since': since,
        'account_name': account_name, 'account_id': account_id, 'region': region, 'resource_name': resource_name,
        'resource_arn': resource_arn
    }, $limit)) AS finding
    FROM open AS o
    GROUP BY rule_id, status
)
SELECT finding.*
FROM listed
ORDER BY list_position($rules, finding.rule_id), list_position(['fail', 'unknown', 'waived'], finding.status),
    (finding.since = CAST($at AS TIMESTAMP)) IS NOT TRUE, finding.first_failed, finding.since, finding.account_name,
    finding.account_id, finding.region, finding.resource_name, finding.resource_arn
