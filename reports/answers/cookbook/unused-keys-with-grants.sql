-- title: Keys that nobody uses
-- topic: before a change
-- question: >-
--   Which keys has nobody used for 90 days, and which grants do they still have?
-- answer: >-
--   Enabled customer managed keys without a known use for so many days, with their age, what is known to use them and
--   who holds grants on them: first those never used, then those whose last use is not known, then those unused the
--   longest. idle_keys is how many there are in all. An attached volume or a running database makes no calls for
--   months: where dependent_resources is not 0 the key is needed. Keys whose last use is not known are listed with the reason.
-- parameters:
--   days: {default: "90", about: "so many days without a use"}
--   rows: {default: "1000", about: "so many keys at most"}
WITH idle AS (
  SELECT k.*
  FROM keys k
  WHERE k.manager = 'CUSTOMER' AND k.state = 'Enabled' AND k.age_days >= CAST($days AS INTEGER)
    AND (k.last_use <> 'used' OR k.last_used_at < (
      SELECT max(started_at) FROM runs) - CAST($days AS INTEGER) * INTERVAL 1 DAY)
), shown AS (
  SELECT *, (SELECT count(*) FROM idle) AS idle_keys
  FROM idle
  ORDER BY last_use, last_used_at, key_arn
  LIMIT CAST($rows AS INTEGER)
), held AS (
  SELECT key_arn, list_sort(list_distinct(list(grantee))) AS grantees
  FROM grants
  WHERE key_arn IN (SELECT key_arn FROM shown)
  GROUP BY key_arn
)
SELECT i.last_use, i.last_used_at, i.age_days, i.account_name, i.region, i.alias, i.dependent_resources, i.grants, h.grantees,
  i.last_use_reason, i.key_arn, i.idle_keys
FROM shown i
LEFT JOIN held h ON h.key_arn = i.key_arn
ORDER BY i.last_use, i.last_used_at, i.key_arn
