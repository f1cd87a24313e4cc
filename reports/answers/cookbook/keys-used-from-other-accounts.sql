-- title: Keys used from other accounts
-- topic: before a change
-- question: >-
--   Which keys encrypt resources of other accounts?
-- answer: >-
--   One row per key and foreign account that uses it. A change of the key affects these accounts, whose teams may
--   not know the key.
SELECT k.account_name AS owner, k.region, u.key_alias, u.account_name AS user_account, u.account_id AS user_account_id,
  count(DISTINCT u.resource_arn) AS resources, list_sort(list_distinct(list(u.resource_type))) AS types, u.key_arn
FROM resource_keys u
LEFT JOIN keys k ON k.key_arn = u.key_arn
WHERE u.key_account_id <> u.account_id
GROUP BY ALL
ORDER BY resources DESC, u.key_arn, user_account_id
