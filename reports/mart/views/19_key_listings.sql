-- Whether the listings of keys and aliases are complete, by account-region that was read or in which one of them failed.
--! internal
--: account_id | The account.
--: region | The region.
--: keys_unlisted | Whether not all keys could be listed.
--: aliases_unlisted | Whether not all aliases could be listed.
--: keys_listed | Whether all keys were listed, so that a key that is not listed does not exist.
SELECT account_id, region, count(*) FILTER (operation = 'ListKeys') > 0 AS keys_unlisted,
  count(*) FILTER (operation = 'ListAliases') > 0 AS aliases_unlisted,
  count(*) FILTER (operation IS NULL) > 0 AND NOT keys_unlisted AS keys_listed
FROM coverage_as_of(as_of_run)
WHERE (operation IS NULL AND outcome IN ('complete', 'partial'))
  OR (outcome = 'gap' AND service = 'kms' AND operation IN ('ListKeys', 'ListAliases'))
GROUP BY account_id, region
