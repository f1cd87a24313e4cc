-- title: Keys by type
-- topic: posture
-- question: >-
--   Which types of keys exist, and how many of them are in use?
-- answer: >-
--   Customer managed and AWS managed keys by key spec, key usage and origin.
SELECT manager, key_spec, key_usage, origin, count(*) AS keys, count(*) FILTER (dependent_resources > 0) AS in_use,
  count(*) FILTER (state = 'Enabled') AS enabled, count(DISTINCT account_id) AS accounts
FROM keys
GROUP BY manager, key_spec, key_usage, origin
ORDER BY keys DESC, manager, key_spec, key_usage, origin
