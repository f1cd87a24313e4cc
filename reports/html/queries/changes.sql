-- The changes since the previous run. Keys that nothing is known to use and that were scheduled for deletion are counted by
-- account and region: an application that replaces its keys schedules one with every rotation.
WITH change AS (
    SELECT *,
        event_type = 'deletion_scheduled' AND key_arn IN (SELECT key_arn FROM internal.pending_deletions WHERE is_unused) AS is_unused
    FROM changes
    WHERE run_id = $run_id
), listed AS (
    SELECT *, count(*) FILTER (is_unused) OVER (PARTITION BY account_id, region) AS unused_keys FROM change
), summarized AS (
    SELECT * EXCLUDE (is_unused, unused_keys) REPLACE (CASE WHEN is_unused THEN 'low' ELSE severity END AS severity) FROM listed WHERE NOT is_unused OR unused_keys = 1
    UNION ALL BY NAME
    SELECT
        run_id, occurred_at, account_id, account_name, region, event_type, 'low' AS severity,
        unused_keys || ' keys that nothing is known to use were scheduled for deletion.' AS message
    FROM listed
    WHERE is_unused AND unused_keys > 1
    GROUP BY ALL
)
SELECT severity, message, replace(event_type, '_', ' ') AS event_type,
    coalesce(account_name, account_id, 'no account') AS account, account_id,
    CASE WHEN account_id IN (SELECT account_id FROM accounts) THEN account_id END AS known_account, region,
    CASE WHEN key_arn IS NOT NULL THEN 'key ' || split_part(key_arn, '/', 2) END AS key_label,
    CASE WHEN key_arn IN (SELECT key_arn FROM keys) THEN key_arn END AS known_arn, before, after,
    count(*) OVER () AS total
FROM summarized
ORDER BY internal.severity_rank(severity), occurred_at, account_id, region, message
LIMIT $limit
