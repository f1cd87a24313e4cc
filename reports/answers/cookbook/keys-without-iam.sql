-- title: Keys that do not delegate to IAM
-- topic: access
-- question: >-
--   Which key policies do not delegate to IAM policies, and which principals have access?
-- answer: >-
--   Keys whose policy does not delegate to its account: only the principals that it names, and grantees, have
--   access. If the named roles are deleted, nobody can change the policy.
WITH not_delegating AS (
  SELECT * FROM keys WHERE delegates_to_iam = false AND manager = 'CUSTOMER'
), named AS (
  SELECT key_arn, list_sort(list_distinct(list(principal))) AS principals,
    count(*) FILTER (access = 'deleted') AS deleted_principals
  FROM internal.access_paths
  WHERE access <> 'unknown' AND key_arn IN (SELECT key_arn FROM not_delegating)
  GROUP BY key_arn
)
SELECT k.account_name, k.region, k.alias, k.state, n.principals, coalesce(n.deleted_principals, 0) AS deleted_principals,
  k.dependent_resources, k.key_arn
FROM not_delegating k
LEFT JOIN named n ON n.key_arn = k.key_arn
ORDER BY k.dependent_resources DESC, k.key_arn
