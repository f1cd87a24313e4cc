-- The references to keys in a service, problematic key classes first.
SELECT u.*, k.alias AS own_alias, count(*) OVER () AS total
FROM resource_keys AS u
LEFT JOIN keys AS k ON k.key_arn = u.key_arn
WHERE u.service = $service
ORDER BY
    list_position(
        ['dangling', 'unknown', 'not_crawled', 'none', 'aws_owned', 'aws_managed', 'customer'], u.key_class
    ),
    u.account_name, u.account_id, u.region, u.resource_name, u.resource_arn, u.role, u.position
LIMIT $limit
