-- The principals named in policies and grants, inside or outside the organization; one row per principal and effect.
WITH named AS (
    SELECT
        p.party, p.party_name, p.principal_account, p.principal, p.principal_type, p.effect,
        count(DISTINCT p.key_arn) AS keys,
        list_sort(list(DISTINCT p.source)) AS sources,
        list_sort(list_distinct(flatten(list(coalesce(p.actions, []))))) AS actions,
        list_sort(list_distinct(flatten(list(coalesce(p.condition_keys, []))))) AS condition_keys,
        bool_or(coalesce(len(p.condition_keys), 0) = 0) AS unconditional,
        -- Sorted by the fields in their order.
        list_sort(list(DISTINCT {
            'account_name': k.account_name, 'account_id': p.account_id, 'region': p.region, 'alias': k.alias,
            'key_arn': p.key_arn
        }))[1:$nested] AS key_list,
        min(p.since) AS since
    FROM key_principals AS p
    LEFT JOIN keys AS k ON k.key_arn = p.key_arn
    WHERE (p.party IN ('own_account', 'own_organization', 'aws_service')) <> $external
    GROUP BY p.party, p.party_name, p.principal_account, p.principal, p.principal_type, p.effect
)
SELECT *, count(*) OVER () AS total
FROM named
ORDER BY
    effect = 'Deny',
    list_position(
        ['known_party', 'external_account', 'public', 'deleted_principal', 'unknown',
         'own_organization', 'own_account', 'aws_service'], party
    ),
    keys DESC, party_name, principal, principal_type
LIMIT $limit
