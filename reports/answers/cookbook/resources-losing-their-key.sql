-- title: Resources whose key is disabled or pending deletion
-- topic: before a change
-- question: >-
--   Which databases, secrets and other resources use a key that is disabled or pending deletion?
-- answer: >-
--   One row per resource and role. After the deletion date nobody can decrypt the data: cancel the deletion or
--   re-encrypt the data before.
SELECT k.state, CAST(k.deletion_date AS DATE) AS deletion_date, k.days_to_deletion, u.resource_type, u.resource_name,
  u.account_name, u.region, u.role, k.alias, k.key_arn
FROM resource_keys u
JOIN keys k ON k.key_arn = u.key_arn
WHERE k.state IN ('PendingDeletion', 'PendingReplicaDeletion', 'Disabled', 'Unavailable', 'PendingImport')
ORDER BY k.days_to_deletion NULLS LAST, u.resource_type, u.resource_name, u.role
