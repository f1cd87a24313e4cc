-- Keys that are scheduled for deletion without known dependents: those without grants, and the others.
SELECT
    coalesce(k.grants = 0, false) AS unused, count(*) AS keys, min(k.deletion_date) AS first_date,
    count(*) FILTER (WHERE k.key_arn IN (
        SELECT key_arn FROM changes WHERE run_id = $run_id AND event_type = 'deletion_scheduled'
    )) AS new_keys
FROM keys AS k
WHERE k.state = 'PendingDeletion' AND coalesce(k.dependent_resources, 0) = 0
GROUP BY ALL
ORDER BY unused
