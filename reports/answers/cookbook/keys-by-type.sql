-- title: Keys by kind
-- topic: posture
-- question: >-
--   What kinds of keys do we have, and how many of them does anything use?
-- answer: >-
--   Customer and AWS managed keys by specification, purpose and origin.
SELECT manager, key_spec, key_usage, origin, count(*) AS keys, count(*) FILTER (dependent_resources > 0) AS in_use,
  count(*) FILTER (state = 'Enabled') AS enabled, count(DISTINCT account_id) AS accounts
FROM keys
GROUP BY manager, key_spec, key_usage, origin
ORDER BY keys DESC, manager, key_spec, key_usage, origin
