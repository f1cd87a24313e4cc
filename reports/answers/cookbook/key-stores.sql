-- title: Custom key stores
-- topic: posture
-- question: >-
--   Which custom key stores are there, are they connected, and how many keys and resources hang on them?
-- answer: >-
--   One row for each store. While it is not connected, none of its keys works.
WITH held AS (
  SELECT account_id, region, custom_key_store_id AS store_id, count(*) AS keys, sum(dependent_resources) AS uses
  FROM keys
  WHERE custom_key_store_id IS NOT NULL
  GROUP BY account_id, region, custom_key_store_id
)
SELECT s.connection_state, s.store_type, s.name, a.name AS account_name, s.region, coalesce(h.keys, 0) AS keys,
  coalesce(h.uses, 0) AS uses, s.connection_error, s.store_id
FROM custom_key_stores s
LEFT JOIN accounts a ON a.account_id = s.account_id
LEFT JOIN held h ON h.account_id = s.account_id AND h.region = s.region AND h.store_id = s.store_id
ORDER BY s.connection_state, account_name, s.region, s.store_id
