-- title: Findings by owner
-- topic: findings
-- question: >-
--   Whose findings are they?
-- answer: >-
--   Open failures by owner (settings: owners), worst first; those without one are counted under an empty owner.
SELECT coalesce(owner, '') AS owner, count(*) AS failing, count(*) FILTER (severity IN ('critical', 'high')) AS grave,
  count(DISTINCT rule_id) AS rules, count(DISTINCT account_id) AS accounts
FROM finding_verdicts
WHERE status = 'fail'
GROUP BY ALL
ORDER BY grave DESC, failing DESC, owner
