-- Keys by the number of dependents, with the resources; a key that is not in the ledger has no state.
WITH page AS (
    SELECT key_arn, count(DISTINCT resource_arn) AS resources, min(key_class) AS key_class,
        count(*) OVER () AS total
    FROM resource_keys
    WHERE key_arn IS NOT NULL
    GROUP BY key_arn
    ORDER BY resources DESC, key_arn
    LIMIT $limit
),
counted AS (
    SELECT key_arn, list({'service': service, 'resources': resources} ORDER BY resources DESC, service) AS services
    FROM (
        SELECT key_arn, service, count(DISTINCT resource_arn) AS resources
        FROM resource_keys SEMI JOIN page USING (key_arn)
        GROUP BY key_arn, service
    )
    GROUP BY key_arn
),
named AS (
    SELECT key_arn, list({
        'name': coalesce(resource_name, resource_arn), 'arn': resource_arn, 'service': service, 'role': role,
        'account_id': account_id, 'account_name': account_name, 'region': region, 'freshness': freshness
    } ORDER BY service, resource_name, resource_arn, role)[1:$nested] AS uses, count(*) AS references
    FROM resource_keys SEMI JOIN page USING (key_arn)
    GROUP BY key_arn
)
SELECT page.*, counted.services, named.uses, named.references,
    k.alias, k.key_id, k.state, k.days_to_deletion,
    split_part(page.key_arn, ':', 5) AS account_id, a.name AS account_name, split_part(page.key_arn, ':', 4) AS region
FROM page
JOIN counted USING (key_arn)
JOIN named USING (key_arn)
LEFT JOIN keys AS k USING (key_arn)
LEFT JOIN accounts AS a ON a.account_id = split_part(page.key_arn, ':', 5)
ORDER BY page.resources DESC, page.key_arn
