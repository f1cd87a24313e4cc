-- The tags of resources that use keys.
--: resource_arn | The resource.
--: account_id | Its account.
--: region | Its region.
--: tag_key | The tag key, case preserved.
--: tag_value | The tag value.
--: since | When this value was first seen.
SELECT t.resource_arn, s.account_id, s.region, t.tag_key, t.tag_value, r.started_at AS since
FROM internal.tag t
JOIN internal.resource s ON s.resource_arn = t.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = t.valid_from
WHERE internal.known(t.valid_from, t.valid_to, as_of_run)
