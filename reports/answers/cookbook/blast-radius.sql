-- title: Dependents of each account's keys
-- topic: before a change
-- question: >-
--   How many resources depend on the keys of each account?
-- answer: >-
--   For each account that owns keys: its keys, the keys in use, the resources encrypted with them, how many of these
--   are in other accounts, and their types. The loss of an account with many foreign resources affects other
--   accounts.
WITH owned AS (
  SELECT account_id, any_value(account_name) AS account_name, count(*) AS keys,
    count(*) FILTER (dependent_resources > 0) AS keys_in_use
  FROM keys
  WHERE manager = 'CUSTOMER'
  GROUP BY account_id
), used AS (
  SELECT key_account_id AS account_id, count(DISTINCT resource_arn) AS resources,
    count(DISTINCT resource_arn) FILTER (account_id <> key_account_id) AS in_other_accounts,
    count(DISTINCT account_id) FILTER (account_id <> key_account_id) AS other_accounts,
    list_sort(list_distinct(list(resource_type))) AS types
  FROM resource_keys
  WHERE key_class = 'customer'
  GROUP BY key_account_id
)
SELECT o.account_name, o.account_id, o.keys, o.keys_in_use, coalesce(u.resources, 0) AS resources,
  coalesce(u.in_other_accounts, 0) AS in_other_accounts, coalesce(u.other_accounts, 0) AS other_accounts, u.types
FROM owned o
LEFT JOIN used u ON u.account_id = o.account_id
ORDER BY resources DESC, o.account_id
