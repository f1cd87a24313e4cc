-- title: Keys that IAM policies cannot open
-- topic: access
-- question: >-
--   Which keys do not let the account's IAM policies decide, and who holds them then?
-- answer: >-
--   Keys whose policy does not delegate to the account: only those named in it (holders) and grants get in. When the
--   named roles are deleted, nobody is left who can change the policy.
WITH shut AS (
  SELECT * FROM keys WHERE delegates_to_iam = false AND manager = 'CUSTOMER'
), holder AS (
  SELECT key_arn, list_sort(list_distinct(list(principal))) AS holders,
    count(*) FILTER (access = 'deleted') AS deleted_principals
  FROM internal.access_paths
  WHERE access <> 'unknown' AND key_arn IN (SELECT key_arn FROM shut)
  GROUP BY key_arn
)
SELECT k.account_name, k.region, k.alias, k.state, h.holders, coalesce(h.deleted_principals, 0) AS deleted_principals,
  k.dependent_resources, k.key_arn
FROM shut k
LEFT JOIN holder h ON h.key_arn = k.key_arn
ORDER BY k.dependent_resources DESC, k.key_arn
