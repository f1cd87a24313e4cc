-- id: secret-replica-key
-- title: Replica secrets use the same class of key as their primary
-- severity: medium
-- family: secrets
-- why: >-
--   A replica contains the same value as its primary, encrypted with a key in its own region. If the primary uses a
--   customer managed key and the replica uses the AWS managed key, a principal that the key policy excludes from the
--   primary can read the value in the other region.
-- fix: >-
--   Choose a customer managed key in the region of the replica, preferably a replica of the primary's multi-Region key,
--   and set it for the replica. To change the key of an existing replica, remove the replica and add it again;
--   applications in that region cannot read the secret in between.
-- console: >-
--   In Secrets Manager, open the primary, delete the region under "Replicate secret", then choose "Replicate secret to
--   other Regions" again with the key.
-- cli: |-
--   aws secretsmanager remove-regions-from-replication --secret-id PRIMARY_ARN --remove-replica-regions REGION
--   aws secretsmanager replicate-secret-to-regions --secret-id PRIMARY_ARN \
--     --add-replica-regions Region=REGION,KmsKeyId=KEY_ARN
-- terraform: >-
--   In the aws_secretsmanager_secret resource, set kms_key_id in each replica { region = "REGION" } block.

WITH secret_key AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::SecretsManager::Secret'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
), replica AS (
  SELECT r.*, r.details ->> 'primary_region' AS primary_region, array_to_string([split_part(r.resource_arn, ':', 1),
    split_part(r.resource_arn, ':', 2), 'secretsmanager', primary_region, r.account_id, 'secret',
    split_part(r.resource_arn, ':', 7)], ':') AS primary_arn
  FROM resources r
  WHERE r.resource_type = 'AWS::SecretsManager::Secret' AND primary_region <> r.region
)
SELECT s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN not_applicable('The secret is scheduled for deletion and cannot be read.')
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN unknown(
      'The key of this replica could not be determined: ' || coalesce(u.reason, 'the crawl returned no data for it') || '.')
    WHEN u.key_class = 'customer'
      THEN pass('The customer managed key ' || coalesce(u.key_alias, u.key_arn, '') || ' encrypts it.')
    WHEN p.key_class IS NULL OR p.key_class IN ('unknown', 'not_crawled', 'dangling') THEN unknown('The key of its primary in '
      || s.primary_region || ' could not be determined: ' || coalesce(p.reason, 'the primary was not found there') || '.')
    WHEN p.key_class = 'customer' THEN fail('Its primary in ' || s.primary_region || ' uses the customer managed key '
      || coalesce(p.key_alias, p.key_arn, '') || ', but this replica does not: ' || CASE WHEN u.key_class = 'dangling'
        THEN 'its key no longer exists.' ELSE coalesce(u.key_alias, u.raw_value, 'the AWS managed key') || ' encrypts it.' END)
    WHEN p.key_class = 'aws_managed' THEN pass('Its primary also uses an AWS managed key.')
    ELSE unknown('Its key has class ' || u.key_class || ', which this rule does not recognize.')
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM replica s
LEFT JOIN secret_key u ON u.resource_arn = s.resource_arn
LEFT JOIN secret_key p ON p.resource_arn = s.primary_arn
