-- The number of principals named outside the organization, by party, without deny statements.
SELECT party, count(DISTINCT principal) AS principals, count(DISTINCT key_arn) AS keys
FROM key_principals
WHERE party NOT IN ('own_account', 'own_organization', 'aws_service') AND effect <> 'Deny'
GROUP BY party
ORDER BY list_position(['known_party', 'external_account', 'public', 'deleted_principal', 'unknown'], party)
