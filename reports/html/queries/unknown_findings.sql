-- The resources with the most unknown results: access to one of them resolves many findings.
SELECT resource_arn, any_value(resource_name) AS resource_name, min(account_id) AS account_id,
    min(account_name) AS account_name, min(region) AS region, count(*) AS rules,
    min({'rank': list_position(['critical', 'high', 'medium', 'low', 'info'], severity), 'reason': reason}).reason AS reason,
    count(*) OVER () AS total
FROM findings
WHERE status = 'unknown'
GROUP BY resource_arn
HAVING count(*) > 2
ORDER BY rules DESC, account_name, region, resource_name, resource_arn
LIMIT $limit
