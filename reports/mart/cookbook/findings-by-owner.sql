-- title: Findings by owner
-- topic: findings
-- question: >-
--   Whose findings are they?
-- answer: >-
--   Open failures by the owner that the key's tag names, worst first; those without one are counted under an empty
--   owner.
-- parameters:
--   tag: {default: "Owner", about: "the tag that names the owner"}
SELECT coalesce(k.tags[$tag], '') AS owner, count(*) AS failing, count(*) FILTER (f.severity IN ('critical', 'high')) AS grave,
  count(DISTINCT f.rule_id) AS rules, count(DISTINCT f.account_id) AS accounts
FROM findings f
LEFT JOIN keys k ON k.key_arn = f.key_arn
WHERE f.status = 'fail'
GROUP BY ALL
ORDER BY grave DESC, failing DESC, owner
