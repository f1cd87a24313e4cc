-- What fails one rule, what is not known about it, and what a waiver accepts.
SELECT *, count(*) OVER () AS total
FROM findings
WHERE rule_id = $rule_id AND status IN ('fail', 'unknown', 'waived')
ORDER BY status, account_name, account_id, region, resource_name, resource_arn
LIMIT $limit
