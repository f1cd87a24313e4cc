-- id: secret-customer-managed-key
-- title: Secrets are encrypted with a customer managed key
-- severity: medium
-- family: secrets
-- why: >-
--   With the AWS managed key of Secrets Manager, every principal that may read a secret may also decrypt it: the policy
--   of that key cannot be changed, and the key cannot be shared with another account or disabled. A customer managed
--   key adds a second control with its own policy, its own CloudTrail entries and an off switch.
-- fix: >-
--   Create or choose a symmetric customer managed key in the region of the secret whose policy allows the readers of
--   the secret to use it through Secrets Manager, and set it on the secret. Only the current, pending and previous
--   versions are re-encrypted; versions with other labels still use the old key, so do not delete it. For replicas, set
--   the key in each region. A secret that another service owns gets its key from that service.
-- console: >-
--   In Secrets Manager, open the secret, choose "Actions", "Edit encryption key", and keep "Create new version of
--   secret with new encryption key" selected.
-- cli: aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id KEY_ARN
-- terraform: >-
--   In the aws_secretsmanager_secret resource, set kms_key_id = aws_kms_key.NAME.arn.
SELECT s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL
      THEN not_applicable('The secret is scheduled for deletion: its key can no longer be changed.')
    WHEN u.resource_arn IS NULL
      THEN unknown('The key of this secret could not be determined: the crawl returned no data for it.')
    WHEN u.key_class = 'not_crawled' THEN unknown('The key ' || coalesce(u.key_arn, u.raw_value, 'of this secret')
      || ' is in an account or region that was not crawled, so who manages it could not be determined.')
    WHEN u.key_class = 'unknown'
      THEN unknown('The key of this secret could not be determined: ' || coalesce(u.reason, 'no reason reported') || '.')
    WHEN u.key_class = 'dangling' THEN fail('The key ' || coalesce(u.key_alias, u.key_arn, u.raw_value, 'of this secret')
      || ' no longer exists: the secret cannot be read.')
    WHEN u.key_class = 'aws_managed' AND u.format = 'omitted'
      THEN fail('The secret specifies no key, so the AWS managed key aws/secretsmanager encrypts it.' || s.owner_fix)
    WHEN u.key_class = 'aws_managed'
      THEN fail('The AWS managed key ' || coalesce(u.key_alias, u.raw_value, u.key_arn, 'of the service') || ' encrypts it.'
        || s.owner_fix)
    WHEN u.key_class = 'aws_owned' THEN fail('An AWS owned key encrypts it.' || s.owner_fix)
    WHEN u.key_class = 'none' THEN fail('It is not encrypted with a KMS key.' || s.owner_fix)
    WHEN u.key_class = 'customer' THEN pass('The customer managed key ' || coalesce(u.key_alias, u.key_arn, '')
      || coalesce(' (' || u.key_state || ')', ' (unknown state)') || ' encrypts it.')
    ELSE unknown('Its key has class ' || u.key_class || ', which this rule does not recognize.')
  END AS verdict,
  CASE WHEN (s.freshness <> 'current' OR u.freshness <> 'current') AND u.key_class <> 'unknown'
    THEN ' This is the last known state.' END AS note
FROM internal.secrets s
LEFT JOIN (
  -- One row per secret, with the least protective key if there is more than one.
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::SecretsManager::Secret'
  QUALIFY row_number() OVER (
    PARTITION BY resource_arn
    ORDER BY list_position(
      ['unknown', 'not_crawled', 'dangling', 'none', 'aws_owned', 'aws_managed', 'customer'], key_class
    ), role, position
  ) = 1
) u USING (resource_arn)
