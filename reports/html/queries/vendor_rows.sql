-- The results of a vendor profile by severity; keys before findings, inaccessible keys first.
SELECT *, date_diff('day', (SELECT started_at FROM runs ORDER BY run_id DESC LIMIT 1), deadline) AS days_left,
    count(*) OVER () AS total
FROM vendor_checks
WHERE profile = $profile AND subject_type <> 'profile'
ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity), subject_type DESC,
    list_position(['broken', 'blocked_by_policy', 'over_shared', 'wrong', 'unknown'], result), result, account_id, region,
    key_alias, key_arn, check_name
LIMIT $limit
