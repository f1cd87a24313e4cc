-- The customer managed keys whose grants could not be read, as results of a rule about grants.
--! internal
--: resource_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: key_arn | The key.
--: verdict | Unknown.
SELECT key_arn AS resource_arn, account_id, region, key_arn, unknown('The grants of the key could not be read'
  || internal.because(failure_causes, ['kms:ListGrants']) || '.') AS verdict
FROM keys_as_of(as_of_run)
WHERE manager IS DISTINCT FROM 'AWS' AND grants IS NULL
