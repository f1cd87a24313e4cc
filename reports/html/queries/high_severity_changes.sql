-- The changes that somebody should look at.
SELECT severity, sentence, account_id, account_name, region
FROM changes
WHERE run_id = $run_id AND severity IN ('critical', 'high')
ORDER BY severity <> 'critical', "at", account_id, region, sentence
