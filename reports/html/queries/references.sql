-- The references of resources to keys, problematic key classes first.
WITH listed AS (
    SELECT *,
        list_position(
            ['dangling', 'unknown', 'not_crawled', 'none', 'aws_owned', 'aws_managed', 'customer'], key_class
        ) AS rank
    FROM resource_keys
    ORDER BY rank, service, account_name, account_id, region, resource_name, resource_arn, role, position
    LIMIT $limit
)
SELECT u.resource_name, u.resource_arn, CASE WHEN u.freshness = 'stale' THEN 'last known' END AS stale,
    coalesce($services[u.service], u.service) AS service, coalesce(u.account_name, u.account_id, 'no account') AS account, u.account_id,
    a.account_id AS known_account, u.region, u.role, u.key_class,
    u.key_alias AS key_name, k.key_arn AS known_arn, coalesce(u.key_arn, u.raw_value) AS key_value,
    nullif(u.key_state, 'Enabled') AS key_state,
    coalesce(u.reason, CASE WHEN u.key_arn IS NULL AND u.raw_value IS NULL THEN $notes[u.key_class] END) AS reason,
    (SELECT count(*) FROM resource_keys) AS total
FROM listed AS u
LEFT JOIN keys AS k ON k.key_arn = u.key_arn
LEFT JOIN accounts AS a ON a.account_id = u.account_id
ORDER BY u.rank, u.service, u.account_name, u.account_id, u.region, u.resource_name, u.resource_arn, u.role, u.position
