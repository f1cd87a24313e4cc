-- title: Principals of a key
-- topic: access
-- question: >-
--   Which users, roles, accounts and services can use this key by its policy and grants, and for what?
-- answer: >-
--   One row per principal, access path and set of operations; access is the principal's relation to the key's owner.
--   If owner_delegated is among the rows, IAM policies of the account give access to more principals: kmsledger
--   who-can evaluates them.
-- parameters:
--   key: {description: "the key's ARN, ID or alias (alias/orders)"}
WITH requested AS (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key)
)
SELECT p.access, p.principal, p.party, p.path, p.source_id, v.operations, p.reason, p.key_arn
FROM internal.access_paths p
LEFT JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
WHERE p.key_arn IN (FROM requested)
ORDER BY p.access, p.principal, p.source_id, v.operations, p.key_arn
