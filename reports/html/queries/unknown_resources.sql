-- The resources $resource_arns, in the order of this list, with the number of their unknown results.
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
    $total AS total
FROM findings
WHERE status = 'unknown' AND resource_arn IN (SELECT unnest(CAST($resource_arns AS VARCHAR[])))
GROUP BY resource_arn
ORDER BY list_position(CAST($resource_arns AS VARCHAR[]), resource_arn)
