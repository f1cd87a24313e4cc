-- The number of account-regions per outcome.
SELECT outcome, count(*) AS scopes, count(DISTINCT account_id) AS accounts
FROM coverage
WHERE outcome <> 'gap'
GROUP BY outcome
ORDER BY outcome
