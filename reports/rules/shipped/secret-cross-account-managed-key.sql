-- id: secret-cross-account-managed-key
-- title: Secrets shared with other accounts use a key that can be shared
-- severity: medium
-- family: secrets
-- why: >-
--   The AWS managed key of Secrets Manager cannot be used from another account, and its policy cannot be changed. A
--   secret that is shared while it uses that key looks shared, but every read from another account is denied.
-- fix: >-
--   Create a customer managed key whose policy allows kms:Decrypt for the other account, set it on the secret, and give
--   the readers in the other account both secretsmanager:GetSecretValue and kms:Decrypt. If nobody noticed that sharing
--   does not work, remove it from the policy instead.
-- console: >-
--   In Secrets Manager, open the secret, choose "Actions", "Edit encryption key", and enter the ARN of the customer
--   managed key.
-- cli: >-
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id KEY_ARN
-- terraform: >-
--   In the aws_secretsmanager_secret resource, set kms_key_id = aws_kms_key.NAME.arn, with a policy in aws_kms_key that
--   allows the other account.
WITH secret_key AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::SecretsManager::Secret'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
), secret AS (
  SELECT *, is_public OR len(organization) + len(parties) + len(external) > 0 AS shared,
    possibly_public OR len(unknown) > 0 AS possibly_shared
  FROM internal.secret_readers
)
SELECT s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN not_applicable('The secret is scheduled for deletion and cannot be read.')
    WHEN s.unevaluated_reason IS NOT NULL THEN unknown(s.unevaluated_reason)
    WHEN s.has_policy IS NULL THEN unknown('Its resource policy was not read.')
    WHEN s.has_policy IS NOT NULL AND NOT s.shared AND NOT s.possibly_shared
      THEN not_applicable('It is not shared with another account.')
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN unknown(
      'It is shared, and its key could not be determined: ' || coalesce(u.reason, 'the crawl returned no data for it') || '.')
    WHEN u.key_class = 'aws_managed' AND NOT s.shared
      THEN unknown('It uses an AWS managed key; could not determine whether it is shared with another account.')
    WHEN u.key_class = 'aws_managed' THEN fail('It is shared (' || array_to_string(
        list_concat(CASE WHEN s.is_public THEN ['everyone'] ELSE [] END, s.organization, s.parties, s.external), ', ')
      || '), but the AWS managed key ' || coalesce(u.key_alias, u.raw_value, 'of the service')
      || ' encrypts it: no other account can read it.')
    WHEN u.key_class = 'dangling'
      THEN fail('It is shared, but its key ' || coalesce(u.key_alias, u.key_arn, u.raw_value, '') || ' no longer exists.')
    WHEN u.key_class = 'customer'
      THEN pass('It is shared, and the customer managed key ' || coalesce(u.key_alias, u.key_arn, '') || ' encrypts it.')
    ELSE unknown('Its key has class ' || u.key_class || ', which this rule does not recognize.')
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM secret s
LEFT JOIN secret_key u ON u.resource_arn = s.resource_arn
