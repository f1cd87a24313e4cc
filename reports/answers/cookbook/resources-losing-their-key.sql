-- title: Data whose key is on its way out
-- topic: before a change
-- question: >-
--   Which databases, secrets and other data are under a key that is disabled or about to be deleted?
-- answer: >-
--   One row for each resource and role. When the deletion date has passed, the data cannot be read by anybody any
--   more: cancel the deletion or move the data before it.
SELECT k.state, CAST(k.deletion_date AS DATE) AS deletion_date, k.days_to_deletion, u.resource_type, u.resource_name,
  u.account_name, u.region, u.role, k.alias, k.key_arn
FROM resource_keys u
JOIN keys k ON k.key_arn = u.key_arn
WHERE k.state IN ('PendingDeletion', 'PendingReplicaDeletion', 'Disabled', 'Unavailable', 'PendingImport')
ORDER BY k.days_to_deletion NULLS LAST, u.resource_type, u.resource_name, u.role
