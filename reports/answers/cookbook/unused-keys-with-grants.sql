-- title: Unused keys and their grants
-- topic: before a change
-- question: >-
--   Which keys have not been used for 90 days, and which grants do they still have?
-- answer: >-
--   Enabled customer managed keys without a known use in this period, with their age, the number of known dependents
--   and the grantees: keys that were never used, then keys whose last use is unknown, then the longest unused.
--   idle_keys is their total number. An attached volume or a running database makes no calls for months: if
--   dependent_resources is not 0, the key is needed. last_use_reason says why the last use is unknown.
-- parameters:
--   days: {default: "90", description: "days without a use"}
--   rows: {default: "1000", description: "maximum number of keys"}
WITH idle AS (
  SELECT k.*
  FROM keys k
  WHERE k.manager = 'CUSTOMER' AND k.state = 'Enabled' AND k.age_days >= CAST($days AS INTEGER)
    AND (k.last_use <> 'used' OR k.last_used_at < (
      SELECT max(started_at) FROM runs) - CAST($days AS INTEGER) * INTERVAL 1 DAY)
), selected AS (
  SELECT *, (SELECT count(*) FROM idle) AS idle_keys
  FROM idle
  ORDER BY last_use, last_used_at, key_arn
  LIMIT CAST($rows AS INTEGER)
), granted AS (
  SELECT key_arn, list_sort(list_distinct(list(grantee))) AS grantees
  FROM grants
  WHERE key_arn IN (SELECT key_arn FROM selected)
  GROUP BY key_arn
)
SELECT i.last_use, i.last_used_at, i.age_days, i.account_name, i.region, i.alias, i.dependent_resources, i.grants, g.grantees,
  i.last_use_reason, i.key_arn, i.idle_keys
FROM selected i
LEFT JOIN granted g ON g.key_arn = i.key_arn
ORDER BY i.last_use, i.last_used_at, i.key_arn
