-- The resources with the most unknown results. Only what identifies them: the reasons of all need too much memory.
SELECT resource_arn, count(*) OVER () AS total
FROM findings
WHERE status = 'unknown'
GROUP BY resource_arn
HAVING count(*) > 2
ORDER BY count(*) DESC, min(account_id), min(region), resource_arn
LIMIT $limit
