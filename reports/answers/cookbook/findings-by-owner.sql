-- title: Findings by owner
-- topic: findings
-- question: >-
--   How many findings does each owner have?
-- answer: >-
--   Open failures by owner (settings: owners), the most severe first; failures without an owner have an empty owner.
WITH counted AS (
  SELECT coalesce(owner, '') AS owner, severity, rule_id, account_id, count(*) AS failing
  FROM internal.findings_without_history
  WHERE status = 'fail'
  GROUP BY ALL
)
SELECT owner, sum(failing) AS failing, coalesce(sum(failing) FILTER (severity IN ('critical', 'high')), 0) AS severe,
  count(DISTINCT rule_id) AS rules, count(DISTINCT account_id) AS accounts
FROM counted
GROUP BY owner
ORDER BY severe DESC, failing DESC, owner
