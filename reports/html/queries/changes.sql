-- The changes since the previous run.
SELECT severity, message, replace(event_type, '_', ' ') AS event_type,
    coalesce(account_name, account_id, 'no account') AS account, account_id, region,
    CASE WHEN key_arn IS NOT NULL THEN 'key ' || split_part(key_arn, '/', 2) END AS key_label,
    CASE WHEN key_arn IN (SELECT key_arn FROM keys) THEN key_arn END AS known_arn, before, after,
    count(*) OVER () AS total
FROM changes
WHERE run_id = $run_id
ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity), occurred_at, account_id, region, message
LIMIT $limit
