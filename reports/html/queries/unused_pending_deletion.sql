-- Keys that are scheduled for deletion without known dependents.
SELECT count(*) AS keys, min(deletion_date) AS first_date
FROM keys
WHERE state = 'PendingDeletion' AND coalesce(dependent_resources, 0) = 0
