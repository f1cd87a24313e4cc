-- Keys by the number of dependents, with the resources; a key that is not in the ledger has its class as state.
WITH listed AS (
    -- Not count(DISTINCT resource_arn), which takes twice as long.
    SELECT key_arn, count(*) AS resources, min(key_class) AS key_class, CAST(sum(known) AS BIGINT) AS known, count(*) OVER () AS total
    FROM (
        SELECT key_arn, resource_arn, min(key_class) AS key_class, count(*) AS known
        FROM resource_keys
        WHERE key_arn IS NOT NULL
        GROUP BY key_arn, resource_arn
    )
    GROUP BY key_arn
    ORDER BY resources DESC, key_arn
    LIMIT $limit
),
counted AS (
    SELECT key_arn, string_agg(resources || ' ' || coalesce($services[service], service), ', ' ORDER BY resources DESC, service) AS services
    FROM (
        SELECT key_arn, service, count(DISTINCT resource_arn) AS resources
        FROM resource_keys SEMI JOIN listed USING (key_arn)
        GROUP BY key_arn, service
    )
    GROUP BY key_arn
),
named AS (
    SELECT key_arn, list([
        coalesce($services[service], service),
        coalesce(resource_name, resource_arn) || CASE WHEN freshness = 'stale' THEN ' (last known)' ELSE '' END, role,
        coalesce(account_name, account_id, 'no account') || coalesce(', ' || region, '')
    ] ORDER BY service, resource_name, resource_arn, role)[1:$nested] AS uses
    FROM resource_keys SEMI JOIN listed USING (key_arn)
    GROUP BY key_arn
)
SELECT d.key_arn, CASE WHEN d.key_arn IN (SELECT key_arn FROM keys) THEN d.key_arn END AS known_arn,
    coalesce(k.alias, k.key_id, d.key_arn) AS name, coalesce(a.name, k.account_name, split_part(d.key_arn, ':', 5)) AS account, split_part(d.key_arn, ':', 5) AS account_id,
    a.account_id AS known_account,
    split_part(d.key_arn, ':', 4) AS region,
    CASE WHEN k.key_id IS NULL THEN d.key_class ELSE coalesce(k.state, 'unknown') END AS state,
    internal.days_from_now(k.days_to_deletion) AS deletion,
    counted.services, d.resources,
    internal.counted(d.known, 'reference', 'references') AS summary,
    named.uses,
    nullif(greatest(d.known - $nested, 0), 0) AS uses_more,
    d.total
FROM listed AS d
JOIN counted USING (key_arn)
JOIN named USING (key_arn)
LEFT JOIN internal.named_keys AS k USING (key_arn)
LEFT JOIN accounts AS a ON a.account_id = split_part(d.key_arn, ':', 5)
ORDER BY d.resources DESC, d.key_arn
