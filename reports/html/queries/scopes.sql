-- The number of account-regions per outcome.
SELECT outcome, any_value(internal.in_scope(outcome)) AS in_scope, count(*) AS scopes, count(DISTINCT account_id) AS accounts
FROM coverage
WHERE outcome <> 'gap'
GROUP BY outcome
ORDER BY outcome
