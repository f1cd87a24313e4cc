-- title: Secrets that other accounts may read
-- topic: access
-- question: >-
--   Which secrets let principals of other accounts in, and under which key are they?
-- answer: >-
--   Secrets whose own policy names somebody outside their account. The reader also needs the secret's key: under
--   aws/secretsmanager, whose policy cannot be changed, such a read fails. kmsledger who-can read SECRET says whether
--   it works.
SELECT p.party, p.party_name, p.principal, p.name AS secret, a.name AS account_name, p.region, p.statement, p.condition_keys,
  u.key_class, u.key_alias, u.key_arn, p.resource_arn
FROM resource_principals p
LEFT JOIN resource_keys u ON u.resource_arn = p.resource_arn
LEFT JOIN accounts a ON a.account_id = p.account_id
WHERE p.effect = 'Allow' AND p.party IN ('own_organization', 'known_party', 'external_account', 'public')
  AND p.resource_arn LIKE '%:secretsmanager:%'
ORDER BY p.party, p.principal, secret, p.resource_arn
