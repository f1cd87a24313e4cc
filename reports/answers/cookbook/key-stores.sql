-- title: Custom key stores
-- topic: posture
-- question: >-
--   Which custom key stores exist, are they connected, and how many keys and resources depend on them?
-- answer: >-
--   One row per key store. While a store is disconnected, none of its keys can be used.
WITH used AS (
  SELECT account_id, region, custom_key_store_id AS store_id, count(*) AS keys, sum(dependent_resources) AS dependent_resources
  FROM keys
  WHERE custom_key_store_id IS NOT NULL
  GROUP BY account_id, region, custom_key_store_id
)
SELECT s.connection_state, s.store_type, s.name, a.name AS account_name, s.region, coalesce(u.keys, 0) AS keys,
  coalesce(u.dependent_resources, 0) AS dependent_resources, s.connection_error, s.store_id
FROM custom_key_stores s
LEFT JOIN accounts a ON a.account_id = s.account_id
LEFT JOIN used u ON u.account_id = s.account_id AND u.region = s.region AND u.store_id = s.store_id
ORDER BY s.connection_state, account_name, s.region, s.store_id
