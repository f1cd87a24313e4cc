-- title: What keys cost to have
-- topic: posture
-- question: >-
--   What do our customer managed keys cost a month, by account?
-- answer: >-
--   Customer managed keys times a price a month (a key in its waiting period costs nothing; each replica is a key). A
--   key of which nothing could be read is counted as one. Calls, and what rotation adds, are not: look at the bill
--   for those. idle is the share of keys that nothing is known to use and that were never used.
-- parameters:
--   price: {default: "1.00", about: "price of a key a month, in the currency of the answer"}
SELECT account_name, account_id, count(*) AS keys, round(count(*) * CAST($price AS DECIMAL(9, 4)), 2) AS a_month,
  round(count(*) FILTER (dependent_resources = 0 AND last_use = 'never_used') * CAST($price AS DECIMAL(9, 4)), 2) AS idle
FROM keys
WHERE manager IS DISTINCT FROM 'AWS' AND coalesce(state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
GROUP BY account_name, account_id
ORDER BY keys DESC, account_id
