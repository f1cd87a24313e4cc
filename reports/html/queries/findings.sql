-- The failed, unknown and waived findings: at most $limit per rule and status, in the order of $rules,
-- those of this run first, then the oldest.
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
QUALIFY row_number() OVER (
    PARTITION BY rule_id, status
    ORDER BY since = CAST($at AS TIMESTAMP) DESC, first_failed, since, account_name, account_id, region, resource_name, resource_arn
) <= $limit
ORDER BY list_position($rules, rule_id), list_position(['fail', 'unknown', 'waived'], status),
    since = CAST($at AS TIMESTAMP) DESC, first_failed, since, account_name, account_id, region, resource_name, resource_arn
