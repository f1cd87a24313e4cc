-- The changes of critical and high severity.
SELECT severity, message, account_id, account_name, region
FROM changes
WHERE run_id = $run_id AND severity IN ('critical', 'high')
ORDER BY severity <> 'critical', occurred_at, account_id, region, message
