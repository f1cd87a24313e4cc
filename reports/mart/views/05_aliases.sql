-- The aliases, with the keys they point to.
--: alias_arn | The ARN of the alias.
--: alias_name | Its name, with the prefix alias/.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: target_key_arn | The key it points to; NULL for a predefined alias that was never used.
--: predefined | Whether it is an AWS alias without a key.
--: created_at | When it was created.
--: updated_at | When it was last pointed to another key.
--: since | When this target was first seen.
SELECT a.alias_arn, a.alias_name, a.account_id, c.name AS account_name, a.region, a.target_key_arn,
  a.target_key_arn IS NULL AS predefined, a.created_at, a.updated_at, r.started_at AS since
FROM internal.alias a
LEFT JOIN internal.account c ON c.account_id = a.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = a.valid_from
WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
