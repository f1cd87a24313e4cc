-- title: The oldest findings
-- topic: findings
-- question: >-
--   Which failures have been open the longest?
-- answer: >-
--   Open failures, the oldest first.
-- parameters:
--   rows: {default: "100", description: "maximum number of rows"}
WITH oldest AS (
  -- Limits before the joins: describing all findings would read millions of rows.
  SELECT l.since, r.severity, l.rule_id, l.resource_arn
  FROM finding_lifecycle l
  -- As of an earlier run, some rules may no longer exist.
  LEFT JOIN rules r ON r.rule_id = l.rule_id
  WHERE l.status = 'fail'
  ORDER BY l.since, internal.severity_rank(r.severity), l.rule_id, l.resource_arn
  LIMIT CAST($rows AS INTEGER)
)
SELECT o.since, h.severity, o.rule_id, a.name AS account_name, h.region,
  coalesce(s.name, k.alias, k.key_id, o.resource_arn) AS resource_name, h.reason, o.resource_arn
FROM oldest o
JOIN findings_history h ON h.rule_id = o.rule_id AND h.resource_arn = o.resource_arn
LEFT JOIN accounts a ON a.account_id = h.account_id
LEFT JOIN resources s ON s.resource_arn = o.resource_arn
LEFT JOIN keys k ON k.key_arn = o.resource_arn
WHERE h.valid_from <= (SELECT max(run_id) FROM runs) AND coalesce(h.valid_to > (SELECT max(run_id) FROM runs), true)
ORDER BY o.since, internal.severity_rank(h.severity), o.rule_id, o.resource_arn
