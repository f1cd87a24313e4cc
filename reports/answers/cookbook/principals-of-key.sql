-- title: Users, roles and services that a key lets in by name
-- topic: access
-- question: >-
--   Which users, roles, accounts and services can use this key by its own policy and grants, and for what?
-- answer: >-
--   One row for each principal, way and set of operations; access tells how the principal stands to the owner. Where
--   owner_delegated is among the rows, IAM policies of the account open the key for more: kmsledger who-can reads
--   those.
-- parameters:
--   key: {about: "the key: its ARN, its id or one of its aliases (alias/orders)"}
WITH asked AS (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key)
)
SELECT p.access, p.principal, p.party, p.path, p.source_id, v.operations, p.reason, p.key_arn
FROM internal.access_paths p
LEFT JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
WHERE p.key_arn IN (FROM asked)
ORDER BY p.access, p.principal, p.source_id, v.operations, p.key_arn
