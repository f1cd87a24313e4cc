-- The results of the vendor profiles by severity; keys before findings, inaccessible keys first.
SELECT result, CASE WHEN subject_type <> 'key' THEN coalesce($checks[check_name], replace(check_name, '_', ' ')) END AS "check", nullif(severity, 'info') AS severity,
    coalesce(key_alias, key_arn, nullif(split_part(subject, ':role/', 2), ''), nullif(subject, ''), 'profile ' || profile) AS subject_name,
    CASE WHEN key_arn IN (SELECT key_arn FROM keys) THEN key_arn END AS known_arn, coalesce(key_arn, subject) AS subject, profile,
    coalesce(account_name, account_id) AS account, account_id, region, reason, fix,
    internal.days_from_now(days) AS days_left,
    strftime(deadline, '%Y-%m-%d') AS deadline, strftime(since, '%Y-%m-%d') AS since,
    CASE WHEN statement IS NOT NULL THEN 'Statement to apply' WHEN evidence IS NOT NULL THEN 'Evidence' END AS summary,
    evidence, statement,
    count(*) OVER () AS total
FROM (
    SELECT *, date_diff('day', (SELECT started_at FROM runs ORDER BY run_id DESC LIMIT 1), deadline) AS days
    FROM vendor_checks
    WHERE subject_type <> 'profile'
)
ORDER BY internal.severity_rank(coalesce(severity, 'info')), profile, subject_type DESC,
    list_position(['broken', 'blocked_by_policy', 'over_shared', 'wrong', 'unknown'], result), result, account_id, region,
    key_alias, key_arn, check_name
LIMIT $limit
