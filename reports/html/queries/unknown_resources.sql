-- The resources with the most unknown results: access to one of them resolves many findings.
SELECT any_value(resource_name) AS resource_name, resource_arn, coalesce(min(account_name), min(account_id), 'no account') AS account,
    min(account_id) AS account_id, min(region) AS region, count(*) AS rules,
    coalesce(
        min({'rank': internal.severity_rank(severity), 'reason': reason}).reason,
        'no reason recorded'
    ) AS reason,
    CASE
        WHEN resource_arn IN (SELECT key_arn FROM keys) THEN 'key-' || resource_arn
        WHEN resource_arn IN (SELECT resource_arn FROM resource_keys) THEN 'resource-' || resource_arn
        WHEN regexp_matches(resource_arn, '^[0-9]{12}') THEN 'account-' || left(resource_arn, 12)
    END AS place,
    count(*) OVER () AS total
FROM findings
WHERE status = 'unknown'
GROUP BY resource_arn
HAVING count(*) > 2
ORDER BY rules DESC, account, region, resource_name, resource_arn
LIMIT $limit
