-- title: Secrets shared with other accounts
-- topic: access
-- question: >-
--   Which secrets allow principals of other accounts, and which key encrypts them?
-- answer: >-
--   Secrets whose resource policy names a principal outside their account. The reader also needs access to the
--   secret's key: with aws/secretsmanager, whose policy cannot be changed, the read fails. kmsledger who-can decrypt
--   SECRET evaluates both.
SELECT p.party, p.party_name, p.principal, p.name AS secret, a.name AS account_name, p.region, p.statement, p.condition_keys,
  u.key_class, u.key_alias, u.key_arn, p.resource_arn
FROM resource_principals p
LEFT JOIN resource_keys u ON u.resource_arn = p.resource_arn
LEFT JOIN accounts a ON a.account_id = p.account_id
WHERE p.effect = 'Allow' AND p.party IN ('own_organization', 'known_party', 'external_account', 'public')
  AND p.resource_arn LIKE '%:secretsmanager:%'
ORDER BY p.party, p.principal, secret, p.resource_arn
