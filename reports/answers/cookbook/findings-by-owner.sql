-- title: Findings by owner
-- topic: findings
-- question: >-
--   Whose findings are they?
-- answer: >-
--   Open failures by owner (settings: owners), worst first; those without one are counted under an empty owner.
WITH counted AS (
  SELECT coalesce(owner, '') AS owner, severity, rule_id, account_id, count(*) AS failing
  FROM internal.findings_without_history
  WHERE status = 'fail'
  GROUP BY ALL
)
SELECT owner, sum(failing) AS failing, coalesce(sum(failing) FILTER (severity IN ('critical', 'high')), 0) AS grave,
  count(DISTINCT rule_id) AS rules, count(DISTINCT account_id) AS accounts
FROM counted
GROUP BY owner
ORDER BY grave DESC, failing DESC, owner
