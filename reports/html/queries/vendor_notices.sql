-- Failed vendor checks of high severity: a row per broken key, the others by profile and result.
SELECT any_value(severity) AS severity, profile, any_value(vendor) AS vendor, result, count(*) AS checks,
    any_value(reason) AS reason, min(deadline) AS deadline, any_value(account_id) AS account_id,
    any_value(account_name) AS account_name, any_value(region) AS region, any_value(key_arn) AS key_arn,
    any_value(key_alias) AS key_alias,
    list(coalesce(key_alias, key_arn, subject) ORDER BY coalesce(key_alias, key_arn, subject)) AS names
FROM vendor_checks
WHERE result IN ('broken', 'blocked_by_policy', 'over_shared', 'wrong') AND severity IN ('critical', 'high')
GROUP BY profile, result, severity, CASE WHEN result = 'broken' THEN key_arn END
ORDER BY profile, result, key_arn
