-- title: The oldest findings
-- topic: findings
-- question: >-
--   Which failures have been open the longest?
-- answer: >-
--   Failures that nobody has dealt with, the oldest first.
-- parameters:
--   rows: {default: "100", about: "so many rows"}
SELECT since, severity, rule_id, account_name, region, resource_name, reason, resource_arn
FROM findings
WHERE status = 'fail'
ORDER BY since, list_position(['critical', 'high', 'medium', 'low', 'info'], severity), rule_id, resource_arn
LIMIT CAST($rows AS INTEGER)
