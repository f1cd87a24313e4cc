-- The number of principals named outside the organization, and of the keys that name them, by party, without deny statements.
WITH outside AS MATERIALIZED (
    SELECT DISTINCT party, principal, source, policy_hash, account_id
    FROM internal.principal_uses
    WHERE party NOT IN ('own_account', 'own_organization', 'aws_service') AND effect <> 'Deny'
),
known_key AS (
    SELECT key_arn, account_id FROM internal.key AS k WHERE internal.known(k.valid_from, k.valid_to, internal.view_run())
),
named AS (
    SELECT o.party, k.key_arn
    FROM (SELECT DISTINCT party, policy_hash, account_id FROM outside WHERE source = 'policy') AS o
    JOIN internal.key_policy AS p ON p.policy_hash = o.policy_hash AND internal.known(p.valid_from, p.valid_to, internal.view_run())
    JOIN known_key AS k ON k.key_arn = p.key_arn AND k.account_id = o.account_id
    UNION ALL
    SELECT o.party, k.key_arn
    FROM (FROM outside WHERE source = 'grant') AS o
    -- Services are not outside the organization.
    JOIN internal.key_grant AS g ON g.grantee_principal IS NOT DISTINCT FROM o.principal AND g.grantee_service_principal IS NULL
        AND internal.known(g.valid_from, g.valid_to, internal.view_run())
    JOIN known_key AS k ON k.key_arn = g.key_arn AND k.account_id = o.account_id
)
SELECT party, p.principals, coalesce(k.keys, 0) AS keys
FROM (SELECT party, count(DISTINCT principal) AS principals FROM outside GROUP BY party) AS p
LEFT JOIN (SELECT party, count(DISTINCT key_arn) AS keys FROM named GROUP BY party) AS k USING (party)
ORDER BY list_position(['known_party', 'external_account', 'public', 'deleted_principal', 'unknown'], party)
