-- The changes since the previous run.
SELECT *, count(*) OVER () AS total
FROM changes
WHERE run_id = $run_id
ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity), occurred_at, account_id, region, message
LIMIT $limit
