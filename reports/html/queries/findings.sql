-- What fails one rule, and what is not known about it.
SELECT *, count(*) OVER () AS total
FROM findings
WHERE rule_id = $rule_id AND status IN ('fail', 'unknown')
ORDER BY status, account_name, account_id, region, resource_name, resource_arn
LIMIT $limit
