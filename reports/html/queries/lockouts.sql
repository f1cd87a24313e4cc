-- Resources whose status reports that they lost access to their key.
SELECT r.resource_arn, r.resource_type, r.name, r.account_id, r.account_name, r.region, r.status, r.since,
    list_sort(list(DISTINCT coalesce(k.alias, u.key_arn)) FILTER (WHERE u.key_arn IS NOT NULL)) AS keys
FROM resources AS r
LEFT JOIN resource_keys AS u ON u.resource_arn = r.resource_arn
LEFT JOIN keys AS k ON k.key_arn = u.key_arn
WHERE r.status LIKE 'inaccessible-encryption-credentials%'
GROUP BY ALL
ORDER BY r.resource_arn
