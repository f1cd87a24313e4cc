-- The changes of critical and high severity, except the deletion of keys that nothing is known to use: these are counted.
SELECT severity, message, account_id, account_name, region
FROM changes
WHERE
    run_id = $run_id AND severity IN ('critical', 'high')
    AND NOT (
        event_type = 'deletion_scheduled'
        AND key_arn IN (
            SELECT key_arn FROM keys WHERE state = 'PendingDeletion' AND dependent_resources = 0 AND grants = 0
        )
    )
ORDER BY severity <> 'critical', occurred_at, account_id, region, message
