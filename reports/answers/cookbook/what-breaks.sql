-- title: What breaks without a key
-- topic: before a change
-- question: >-
--   What breaks if I disable or delete this key?
-- answer: >-
--   All known dependents of the key: resources that use it (with the role), grants, replicas and aliases. Resources
--   whose key could not be read are missing: check resources-with-unknown-key too. Data that applications encrypted
--   themselves appears only in the last use.
-- parameters:
--   key: {description: "the key's ARN, ID or alias (alias/orders)"}
WITH requested AS (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key)
)
SELECT 'resource' AS what, u.resource_type AS type, u.resource_name AS name, u.account_name, u.region,
  u.role || CASE WHEN u.freshness = 'current' THEN '' ELSE ' (' || u.freshness || ')' END AS detail, u.key_arn
FROM resource_keys u
WHERE u.key_arn IN (FROM requested)
UNION ALL
SELECT 'grant', NULL, coalesce(g.name, g.grant_id), g.account_name, g.region,
  g.grantee || ': ' || array_to_string(g.operations, ', '), g.key_arn
FROM grants g
WHERE g.key_arn IN (FROM requested)
UNION ALL
SELECT 'replica', NULL, k.key_arn, k.account_name, k.region, k.state, k.primary_arn
FROM keys k
WHERE k.primary_arn IN (FROM requested) AND k.key_arn <> k.primary_arn
UNION ALL
SELECT 'alias', NULL, a.alias_name, a.account_name, a.region, NULL, a.target_key_arn
FROM aliases a
WHERE a.target_key_arn IN (FROM requested)
UNION ALL
SELECT 'last use', NULL, k.last_used_operation, k.account_name, k.region,
  k.last_use || coalesce(' at ' || strftime(k.last_used_at, '%Y-%m-%d %H:%M'), '') || coalesce(': ' || k.last_use_reason, ''),
  k.key_arn
FROM keys k
WHERE k.key_arn IN (FROM requested)
ORDER BY what, type, name, region, detail
