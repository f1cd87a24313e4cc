-- title: Keys scheduled for deletion
-- topic: before a change
-- question: >-
--   Which keys are scheduled for deletion, and does anything still depend on them?
-- answer: >-
--   Every key in its waiting period, the soonest deletion first, with its known dependents, its grants (empty:
--   unknown) and its last use.
SELECT CAST(deletion_date AS DATE) AS deletion_date, days_to_deletion, account_name, region, alias, dependent_resources, grants,
  last_use, last_used_at, state, key_arn
FROM keys
WHERE state IN ('PendingDeletion', 'PendingReplicaDeletion')
ORDER BY days_to_deletion NULLS LAST, dependent_resources DESC, key_arn
