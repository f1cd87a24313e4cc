-- title: Monthly cost of keys
-- topic: posture
-- question: >-
--   What do our customer managed keys cost per month, by account?
-- answer: >-
--   The number of customer managed keys times the price per month (a key in its waiting period is free; each replica
--   is a key). A key that could not be read counts as one key. Requests and rotations are not included: see the
--   bill. idle is the share of keys that have no known dependents and were never used.
-- parameters:
--   price: {default: "1.00", description: "price per key and month, in any currency"}
SELECT account_name, account_id, count(*) AS keys, round(count(*) * CAST($price AS DECIMAL(9, 4)), 2) AS per_month,
  round(count(*) FILTER (dependent_resources = 0 AND last_use = 'never_used') * CAST($price AS DECIMAL(9, 4)), 2) AS idle
FROM keys
WHERE manager IS DISTINCT FROM 'AWS' AND coalesce(state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
GROUP BY account_name, account_id
ORDER BY keys DESC, account_id
