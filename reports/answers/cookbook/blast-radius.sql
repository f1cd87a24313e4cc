-- title: What each account's keys hold
-- topic: before a change
-- question: >-
--   How much hangs on the keys of each account?
-- answer: >-
--   For each account that owns keys: its keys, those in use, the resources under them, how many of these are in other
--   accounts, and how many kinds. An account with many foreign resources is one whose loss would be felt elsewhere.
WITH owned AS (
  SELECT account_id, any_value(account_name) AS account_name, count(*) AS keys, count(*) FILTER (dependent_resources > 0) AS keys_in_use
  FROM keys
  WHERE manager = 'CUSTOMER'
  GROUP BY account_id
), held AS (
  SELECT key_account_id AS account_id, count(DISTINCT resource_arn) AS resources,
    count(DISTINCT resource_arn) FILTER (account_id <> key_account_id) AS in_other_accounts,
    count(DISTINCT account_id) FILTER (account_id <> key_account_id) AS other_accounts,
    list_sort(list_distinct(list(resource_type))) AS types
  FROM resource_keys
  WHERE key_class = 'customer'
  GROUP BY key_account_id
)
SELECT o.account_name, o.account_id, o.keys, o.keys_in_use, coalesce(h.resources, 0) AS resources,
  coalesce(h.in_other_accounts, 0) AS in_other_accounts, coalesce(h.other_accounts, 0) AS other_accounts, h.types
FROM owned o
LEFT JOIN held h ON h.account_id = o.account_id
ORDER BY resources DESC, o.account_id
