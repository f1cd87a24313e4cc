-- id: secret-replica-key
-- title: Replicas of secrets have keys of the same class as their primary
-- severity: medium
-- family: secrets
-- why: >-
--   A replica holds the same value as its primary, under a key of its own region. If the primary has a customer managed
--   key and the replica the AWS managed one, whoever is kept from the primary by the key policy reads the value in the
--   other region.
-- fix: >-
--   Choose a customer managed key in the replica's region, best a replica of the primary's multi-Region key, and set it
--   for the replica. The key of an existing replica is changed by removing the replica and adding it again;
--   applications in that region cannot read the secret in between.
-- console: >-
--   In Secrets Manager open the primary, under "Replicate secret" delete the region, then choose "Replicate secret to
--   other Regions" again with the key.
-- cli: |-
--   aws secretsmanager remove-regions-from-replication --secret-id PRIMARY_ARN --remove-replica-regions REGION
--   aws secretsmanager replicate-secret-to-regions --secret-id PRIMARY_ARN \
--     --add-replica-regions Region=REGION,KmsKeyId=KEY_ARN
-- terraform: >-
--   In the resource aws_secretsmanager_secret give each replica { region = "REGION" } its kms_key_id.

-- A replica has the name and the random suffix of its primary; only the region in the ARN differs.
WITH used AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::SecretsManager::Secret'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
), replica AS (
  SELECT r.*, array_to_string([split_part(r.resource_arn, ':', 1), split_part(r.resource_arn, ':', 2), 'secretsmanager',
    (r.details ->> 'primary_region'), r.account_id, 'secret', split_part(r.resource_arn, ':', 7)], ':') AS primary_arn
  FROM resources r
  WHERE r.resource_type = 'AWS::SecretsManager::Secret' AND (r.details ->> 'primary_region') <> r.region
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn AS key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'not_applicable'
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class <> 'customer' AND (p.key_class IS NULL OR p.key_class IN ('unknown', 'not_crawled', 'dangling'))
      THEN 'unknown'
    WHEN u.key_class <> 'customer' AND p.key_class = 'customer' THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    WHEN p.key_class = 'aws_managed' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'The secret is scheduled for deletion and cannot be read.'
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled')
      THEN 'The key of this replica is not known: ' || coalesce(u.reason, 'the crawl returned no data for it') || '.'
    WHEN u.key_class <> 'customer' AND (p.key_class IS NULL OR p.key_class IN ('unknown', 'not_crawled', 'dangling'))
      THEN 'The key of its primary in ' || (s.details ->> 'primary_region') || ' is not known: '
      || coalesce(p.reason, 'it was not seen there') || '.'
    WHEN u.key_class <> 'customer' AND p.key_class = 'customer'
      THEN 'Its primary in ' || (s.details ->> 'primary_region') || ' is under the customer managed key '
      || coalesce(p.key_alias, p.key_arn, '') || ', but this replica is not: '
      || CASE WHEN u.key_class = 'dangling'
        THEN 'its key no longer exists.' ELSE coalesce(u.key_alias, u.raw_value, 'the AWS managed key') || ' encrypts it.' END
    WHEN u.key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(u.key_alias, u.key_arn, '') || ' encrypts it.'
    WHEN p.key_class = 'aws_managed' THEN 'Its primary is under an AWS managed key, too.'
    ELSE 'Its key has class ' || u.key_class || ', which this rule does not recognize.'
  END || CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM replica s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
LEFT JOIN used p ON p.resource_arn = s.primary_arn
WHERE s.resource_type IN ('AWS::SecretsManager::Secret')
