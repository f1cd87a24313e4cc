-- How many account-regions had which outcome.
SELECT outcome, count(*) AS scopes, count(DISTINCT account_id) AS accounts
FROM coverage
WHERE outcome <> 'gap'
GROUP BY outcome
ORDER BY outcome
