-- title: Keys that will be deleted
-- topic: before a change
-- question: >-
--   Which keys are scheduled for deletion, and does anything still hang on them?
-- answer: >-
--   Every key in its waiting period, the soonest first, with the resources that are known to use it, its grants
--   (empty: not known) and its last use.
SELECT CAST(deletion_date AS DATE) AS deletion_date, days_to_deletion, account_name, region, alias, dependent_resources, grants,
  last_use, last_used_at, state, key_arn
FROM keys
WHERE state IN ('PendingDeletion', 'PendingReplicaDeletion')
ORDER BY days_to_deletion NULLS LAST, dependent_resources DESC, key_arn
