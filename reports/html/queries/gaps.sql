-- The open gaps.
SELECT *, count(*) OVER () AS total
FROM coverage
WHERE outcome = 'gap'
ORDER BY account_name, account_id, region, service, operation, subject
LIMIT $limit
