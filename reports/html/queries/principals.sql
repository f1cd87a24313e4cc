-- The principals named in policies and grants, those outside the organization first; one row per principal and effect.
WITH named AS MATERIALIZED (
    SELECT party, party_name, principal_account, principal, principal_type, effect, CAST(sum(keys) AS BIGINT) AS key_count, min(since) AS since
    FROM (
        -- Two statements of a policy can name the same principal.
        SELECT DISTINCT policy_hash, account_id, party, party_name, principal_account, principal, principal_type, effect, keys, since
        FROM internal.principal_uses
        WHERE source = 'policy'
        UNION ALL
        SELECT policy_hash, account_id, party, party_name, principal_account, principal, principal_type, effect, keys, since
        FROM internal.principal_uses
        WHERE source = 'grant'
    )
    GROUP BY ALL
),
listed AS (
    -- Numbered after the limit: there can be a million principals.
    SELECT *, row_number() OVER () AS position, (SELECT count(*) FROM named) AS total
    FROM (
        SELECT * FROM named
        ORDER BY
            party IN ('own_organization', 'own_account', 'aws_service'), effect = 'Deny',
            list_position(
                ['public', 'external_account', 'known_party', 'deleted_principal', 'unknown',
                 'own_organization', 'own_account', 'aws_service'], party
            ),
            key_count DESC, party_name, principal, principal_type
        LIMIT $limit
    )
),
named_by_policy AS (
    SELECT n.position, u.policy_hash, u.account_id, s.actions, s.condition_keys
    FROM internal.principal_uses AS u
    JOIN listed AS n ON n.principal = u.principal AND n.principal_type = u.principal_type
        AND n.party IS NOT DISTINCT FROM u.party AND n.effect IS NOT DISTINCT FROM u.effect
    JOIN internal.policy_statement AS s ON s.policy_hash = u.policy_hash AND s.statement_index = u.statement_index
    WHERE u.source = 'policy'
),
policy_key AS (
    SELECT policy_hash, account_id, min(key_arn, 2 * $nested) AS key_arns
    FROM internal.key_policy AS p
    JOIN keys AS k USING (key_arn)
    SEMI JOIN named_by_policy AS n ON n.policy_hash = p.policy_hash
    WHERE internal.known(p.valid_from, p.valid_to, internal.view_run())
    GROUP BY policy_hash, account_id
),
-- Their statements and grants, of which there can be millions; few differ in actions and conditions.
different AS (
    SELECT n.position, 'policy' AS source, n.actions, n.condition_keys, min(key_arn, 2 * $nested) AS key_arns
    FROM named_by_policy AS n
    JOIN (SELECT policy_hash, account_id, unnest(key_arns) AS key_arn FROM policy_key) AS k USING (policy_hash, account_id)
    GROUP BY ALL
    UNION ALL
    SELECT position, 'grant', list_transform(CAST(CAST(operations AS JSON) AS VARCHAR[]), lambda operation: 'kms:' || operation),
        json_keys(constraints), key_arns
    FROM (
        SELECT n.position, g.operations, g.constraints, min(g.key_arn, 2 * $nested) AS key_arns
        FROM internal.key_grant AS g
        JOIN listed AS n ON n.principal = coalesce(g.grantee_service_principal, g.grantee_principal) AND n.effect = 'Allow'
        LEFT JOIN internal.principal_dim AS d ON d.principal = g.grantee_principal
        JOIN keys AS k ON k.key_arn = g.key_arn
        WHERE internal.known(g.valid_from, g.valid_to, internal.view_run())
            AND n.principal_type = CASE WHEN g.grantee_service_principal IS NULL THEN coalesce(d.type, 'unknown') ELSE 'service' END
            -- The principal of a grant can be of the key's own account, or not; nothing else depends on the key.
            AND (n.party = 'own_account')
                = (internal.party_of(n.principal_type, n.principal_account, NULL, k.account_id, NULL, false, false) = 'own_account')
        GROUP BY n.position, g.operations, g.constraints
    )
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
    internal.counted(n.key_count, 'key', 'keys')
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
