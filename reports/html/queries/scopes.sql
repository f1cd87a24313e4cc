-- The number of account-regions per outcome, and of those that only earlier runs have read.
SELECT outcome, any_value(internal.in_scope(outcome)) AS in_scope, count(*) AS scopes, count(DISTINCT account_id) AS accounts,
    count(*) FILTER (internal.in_scope(outcome) AND read_run_id < run_id) AS earlier
FROM coverage
WHERE outcome <> 'gap'
GROUP BY outcome
ORDER BY outcome
