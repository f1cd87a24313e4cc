-- The target of each alias, except the aliases that AWS predefines for services.
--! internal
--: alias_arn | The alias.
--: alias_name | Its name, with the prefix alias/.
--: account_id | Its account.
--: region | Its region.
--: target_key_arn | The key it points to; NULL if it points to none.
--: target | exists; gone: the key does not exist, because all keys of the account and region were listed; unknown: the key is not in the inventory, but the listing is incomplete; none: the alias points to no key.
--: key_state | The state of that key: Enabled, Disabled ...; NULL if unknown.
--: deletion_date | When that key will be deleted.
SELECT a.alias_arn, a.alias_name, a.account_id, a.region, a.target_key_arn,
  CASE
    WHEN a.target_key_arn IS NULL THEN 'none'
    WHEN k.key_arn IS NOT NULL THEN 'exists'
    WHEN l.keys_listed THEN 'gone'
    ELSE 'unknown'
  END AS target,
  k.state AS key_state, k.deletion_date
FROM aliases_as_of(as_of_run) a
LEFT JOIN keys_as_of(as_of_run) k ON k.key_arn = a.target_key_arn
LEFT JOIN internal.key_listings_as_of(as_of_run) l ON l.account_id = a.account_id AND l.region = a.region
WHERE NOT starts_with(a.alias_name, 'alias/aws/')
