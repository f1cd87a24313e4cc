-- The tags of keys.
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: tag_key | The tag key, case preserved.
--: tag_value | The tag value.
--: since | When this value was first seen.
SELECT t.resource_arn AS key_arn, k.account_id, k.region, t.tag_key, t.tag_value, r.started_at AS since
FROM internal.tag t
JOIN internal.key k ON k.key_arn = t.resource_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = t.valid_from
WHERE internal.known(t.valid_from, t.valid_to, as_of_run)
