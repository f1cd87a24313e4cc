-- The principals named in policies and grants, those outside the organization first; one row per principal and effect.
WITH named AS (
    SELECT
        p.party, p.party_name, p.principal_account, p.principal, p.principal_type, p.effect,
        count(DISTINCT p.key_arn) AS key_count,
        list_sort(list(DISTINCT p.source)) AS sources,
        list_sort(list_distinct(flatten(list(coalesce(p.actions, []))))) AS actions,
        list_sort(list_distinct(flatten(list(coalesce(p.condition_keys, []))))) AS condition_keys,
        bool_or(coalesce(len(p.condition_keys), 0) = 0) AS unconditional,
        list_sort(list(DISTINCT [
            coalesce(k.alias, k.key_id, 'key not crawled'), p.key_arn, coalesce(k.account_name, p.account_id) || ', ' || p.region
        ]))[1:$nested] AS key_list,
        min(p.since) AS since
    FROM key_principals AS p
    LEFT JOIN keys AS k ON k.key_arn = p.key_arn
    GROUP BY p.party, p.party_name, p.principal_account, p.principal, p.principal_type, p.effect
)
SELECT principal, principal_type || ', named in ' || array_to_string(sources, ' and ') AS named, principal_type, party, party_name,
    principal_account, coalesce(effect, 'none stated') AS effect,
    coalesce(nullif(array_to_string(actions, ', '), ''), 'none') AS actions,
    coalesce(nullif(array_to_string(condition_keys, ', '), ''), 'none') AS condition_keys,
    CASE WHEN unconditional AND len(condition_keys) > 0 THEN 'none in some statements' END AS unconditional,
    key_count,
    key_count || CASE WHEN key_count = 1 THEN ' key' ELSE ' keys' END
        || coalesce(', named at least since ' || strftime(since, '%Y-%m-%d'), '') AS summary,
    key_list,
    nullif(greatest(key_count - $nested, 0), 0) AS keys_more,
    count(*) OVER () AS total
FROM named
ORDER BY
    party IN ('own_organization', 'own_account', 'aws_service'), effect = 'Deny',
    list_position(
        ['public', 'external_account', 'known_party', 'deleted_principal', 'unknown',
         'own_organization', 'own_account', 'aws_service'], party
    ),
    key_count DESC, party_name, principal, principal_type
LIMIT $limit
