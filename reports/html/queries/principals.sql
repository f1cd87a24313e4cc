-- The principals named in policies and grants, those outside the organization first; one row per principal and effect.
WITH named AS (
    SELECT party, party_name, principal_account, principal, principal_type, effect, count(*) AS key_count, min(since) AS since
    FROM (
        -- Not count(DISTINCT key_arn): DuckDB would hold all of these rows, of which there can be millions, twice.
        SELECT party, party_name, principal_account, principal, principal_type, effect, key_arn, min(since) AS since
        FROM key_principals
        GROUP BY ALL
    )
    GROUP BY ALL
),
listed AS (
    SELECT *, row_number() OVER () AS position, count(*) OVER () AS total
    FROM named
    ORDER BY
        party IN ('own_organization', 'own_account', 'aws_service'), effect = 'Deny',
        list_position(
            ['public', 'external_account', 'known_party', 'deleted_principal', 'unknown',
             'own_organization', 'own_account', 'aws_service'], party
        ),
        key_count DESC, party_name, principal, principal_type
    LIMIT $limit
),
-- Their statements and grants, of which there can be millions; few differ in actions and conditions.
stated AS (
    SELECT n.position, p.key_arn, p.source, p.actions, p.condition_keys
    FROM key_principals AS p
    JOIN listed AS n ON n.principal = p.principal AND n.principal_type = p.principal_type
        AND n.party IS NOT DISTINCT FROM p.party AND n.effect IS NOT DISTINCT FROM p.effect
),
different AS (
    SELECT position, source, actions, condition_keys, min(key_arn, 2 * $nested) AS key_arns
    FROM stated
    GROUP BY position, source, actions, condition_keys
),
merged AS (
    SELECT position,
        list_sort(list(DISTINCT source)) AS sources,
        list_sort(list_distinct(flatten(list(coalesce(actions, []))))) AS actions,
        list_sort(list_distinct(flatten(list(coalesce(condition_keys, []))))) AS condition_keys,
        bool_or(coalesce(len(condition_keys), 0) = 0) AS unconditional,
        list_sort(list_distinct(flatten(list(key_arns))))[1:$nested] AS key_arns
    FROM different
    GROUP BY position
),
key_named AS (
    SELECT n.position, list([
        coalesce(k.alias, k.key_id, 'key not crawled'), n.key_arn,
        coalesce(k.account_name, split_part(n.key_arn, ':', 5)) || ', ' || split_part(n.key_arn, ':', 4)
    ] ORDER BY n.key_arn) AS key_list
    FROM (SELECT position, unnest(key_arns) AS key_arn FROM merged) AS n
    LEFT JOIN keys AS k ON k.key_arn = n.key_arn
    GROUP BY n.position
)
SELECT n.principal, n.principal_type || ', named in ' || array_to_string(s.sources, ' and ') AS named, n.principal_type, n.party,
    n.party_name, n.principal_account, coalesce(n.effect, 'none stated') AS effect,
    coalesce(nullif(array_to_string(s.actions, ', '), ''), 'none') AS actions,
    coalesce(nullif(array_to_string(s.condition_keys, ', '), ''), 'none') AS condition_keys,
    CASE WHEN s.unconditional AND len(s.condition_keys) > 0 THEN 'none in some statements' END AS unconditional,
    n.key_count,
    n.key_count || CASE WHEN n.key_count = 1 THEN ' key' ELSE ' keys' END
        || coalesce(', named at least since ' || strftime(n.since, '%Y-%m-%d'), '') AS summary,
    k.key_list, nullif(n.key_count - len(k.key_list), 0) AS keys_more,
    n.total
FROM listed AS n
LEFT JOIN key_named AS k USING (position)
LEFT JOIN merged AS s USING (position)
ORDER BY
    n.party IN ('own_organization', 'own_account', 'aws_service'), n.effect = 'Deny',
    list_position(
        ['public', 'external_account', 'known_party', 'deleted_principal', 'unknown',
         'own_organization', 'own_account', 'aws_service'], n.party
    ),
    n.key_count DESC, n.party_name, n.principal, n.principal_type
