-- How each resource is encrypted, by role: whether it is encrypted, and whether the key is customer managed.
--! stored
--: resource_arn | The resource.
--: resource_type | The CloudFormation type name.
--: account_id | The resource's account.
--: region | The resource's region.
--: name | The resource's name.
--: role | What the key encrypts: storage, secret, default-encryption, logs; for databases also performance-insights, master-user-secret and activity-stream, if used or unknown.
--: not_applicable_reason | Why the resource has nothing of its own to encrypt, in words; NULL otherwise.
--: encrypted | Whether it is encrypted; NULL if unknown.
--: encrypted_reason | The same in words, with the key.
--: customer_managed | Whether the key is customer managed (false: no key, an AWS key, or a deleted key); NULL if unknown.
--: customer_managed_reason | The same in words, with the key.
--: key_class | As in resource_keys; NULL if the crawl has no data.
--: key_arn | The key; the first one if the role has several.
--: freshness | current, or stale: the run could not read its keys again.
--: stale_note | A sentence to append to a reason if the data is stale; empty text otherwise.
WITH used AS (
  -- A resource that did not report its keys has one row with role unknown, which may be any of its roles.
  SELECT u.resource_arn, u.resource_type, u.key_arn, u.key_alias, u.key_class, u.raw_value, u.reason, u.position, u.freshness,
    u.role = 'unknown' AS any_role, unnest(CASE
      WHEN u.role <> 'unknown' THEN [u.role]
      WHEN u.resource_type = 'AWS::S3::Bucket' THEN ['default-encryption']
      WHEN u.resource_type = 'AWS::SecretsManager::Secret' THEN ['secret']
      WHEN u.resource_type = 'AWS::CloudTrail::Trail' THEN ['logs']
      WHEN u.resource_type LIKE '%::DBInstance' OR u.resource_type LIKE '%::DBCluster'
        THEN ['storage', 'performance-insights', 'master-user-secret', 'activity-stream']
      ELSE ['storage'] END) AS role
  FROM resource_keys_as_of(as_of_run) u
), several AS (
  -- Only these can have more than one row per role; numbering the rows of all resources would be expensive.
  SELECT DISTINCT resource_arn FROM used WHERE position <> 0 OR any_role
), first_key AS (
  SELECT * FROM used u
  WHERE NOT EXISTS (SELECT 1 FROM several n WHERE n.resource_arn = u.resource_arn)
  UNION ALL
  SELECT * FROM used u
  WHERE EXISTS (SELECT 1 FROM several n WHERE n.resource_arn = u.resource_arn)
  QUALIFY row_number() OVER (PARTITION BY u.resource_arn, u.role ORDER BY u.position) = 1
), resource AS (
  -- The flag of a member of a cluster says nothing about the storage, which is that of the cluster.
  SELECT * REPLACE (CASE WHEN resource_type LIKE '%::DBInstance' AND (details ->> 'cluster') IS NOT NULL AND encryption = 'false'
      THEN NULL ELSE encryption END AS encryption),
    CASE resource_type WHEN 'AWS::S3::Bucket' THEN 'default-encryption' WHEN 'AWS::SecretsManager::Secret' THEN 'secret'
      WHEN 'AWS::CloudTrail::Trail' THEN 'logs' ELSE 'storage' END AS main_role
  FROM resources_as_of(as_of_run)
), answer AS (
  SELECT s.* REPLACE (coalesce(u.freshness, s.freshness) AS freshness), s.main_role AS role, u.key_arn, u.key_alias, u.key_class, u.raw_value, u.reason
  FROM resource s
  LEFT JOIN first_key u ON u.resource_arn = s.resource_arn AND u.role = s.main_role
  UNION ALL
  SELECT s.* REPLACE (u.freshness AS freshness), u.role, u.key_arn, u.key_alias, u.key_class, u.raw_value, u.reason
  FROM resource s
  JOIN first_key u ON u.resource_arn = s.resource_arn AND u.role <> s.main_role
), named AS (
  SELECT *,
    CASE
      WHEN role = 'storage' AND resource_type IN ('AWS::ElastiCache::Snapshot',
        'AWS::ElastiCache::ServerlessCacheSnapshot') THEN 'this snapshot'
      WHEN role = 'storage' THEN 'its storage'
      WHEN role = 'default-encryption' THEN 'its default encryption'
      WHEN role = 'performance-insights' THEN 'Performance Insights'
      WHEN role = 'master-user-secret' THEN 'the master password'
      WHEN role = 'activity-stream' THEN 'its activity stream'
      WHEN role = 'logs' THEN 'its logs'
      ELSE 'this ' || role END AS purpose
  FROM answer
)
SELECT resource_arn, resource_type, account_id, region, name, role,
  CASE
    WHEN role <> 'storage' THEN NULL
    WHEN resource_type LIKE '%::DBInstance' AND (details ->> 'cluster') IS NOT NULL
      THEN 'It is a member of cluster ' || (details ->> 'cluster') || ', whose storage it uses: the rule evaluates the cluster.'
    WHEN resource_type = 'AWS::ElastiCache::CacheCluster' AND (details ->> 'engine') = 'memcached'
      THEN 'Memcached clusters with nodes keep nothing at rest that could be encrypted.'
  END AS not_applicable_reason,
  CASE
    WHEN raw_value IS NULL AND encryption IS NULL AND coalesce(key_class, 'unknown') = 'unknown' THEN NULL
    WHEN raw_value IS NULL AND coalesce(encryption, key_class) IN ('none', 'false') THEN false
    WHEN raw_value IS NOT NULL OR encryption IN ('true', 'sse-kms', 'sse-rds', 'sse-elasticache') THEN true
    WHEN key_class IN ('customer', 'aws_managed', 'aws_owned', 'not_crawled', 'dangling') THEN true
  END AS encrypted,
  CASE
    WHEN raw_value IS NULL AND encryption IS NULL AND key_class IS NULL
      THEN 'It is not known whether it is encrypted: the crawl returned no data for it.'
    WHEN raw_value IS NULL AND encryption IS NULL AND key_class = 'unknown'
      THEN 'It is not known whether it is encrypted: ' || coalesce(reason, 'no reason was given') || '.'
    WHEN raw_value IS NULL AND coalesce(encryption, key_class) IN ('none', 'false') THEN 'It is not encrypted at rest.'
    WHEN key_class = 'aws_owned' OR encryption = 'sse-rds' THEN 'It is encrypted with a key that AWS owns.'
    WHEN key_class = 'dangling'
      THEN 'It is encrypted, with the key ' || coalesce(key_alias, key_arn, raw_value, '') || ' that no longer exists.'
    WHEN key_class IS NOT NULL OR encryption IN ('true', 'sse-kms', 'sse-elasticache')
      THEN 'It is encrypted with ' || coalesce(key_alias, key_arn, raw_value, 'a key of the service') || '.'
    ELSE 'The service reports an encryption that this rule does not recognize: ' || coalesce(encryption, 'nothing') || '.'
  END AS encrypted_reason,
  CASE
    WHEN key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN false
    WHEN key_class = 'customer' THEN true
  END AS customer_managed,
  CASE
    WHEN key_class IS NULL THEN 'The key of ' || purpose || ' is not known: the crawl returned no data for it.'
    WHEN key_class = 'unknown'
      THEN 'The key of ' || purpose || ' is not known: ' || coalesce(reason, 'no reason was given') || '.'
    WHEN key_class = 'not_crawled' THEN 'The key ' || coalesce(key_arn, raw_value, 'of ' || purpose)
      || ' is in an account or region that was not crawled, so it is not known who manages it.'
    WHEN key_class = 'none' THEN 'It is not encrypted with a KMS key.'
    WHEN key_class = 'aws_owned' THEN 'A key that AWS owns encrypts it'
      || CASE WHEN starts_with(encryption, 'sse-') THEN ' (' || encryption || ')' ELSE '' END || '.'
    WHEN key_class = 'aws_managed'
      THEN 'The AWS managed key ' || coalesce(key_alias, raw_value, key_arn, 'of the service') || ' encrypts it.'
    WHEN key_class = 'dangling'
      THEN 'The key ' || coalesce(key_alias, key_arn, raw_value, 'of ' || purpose) || ' no longer exists.'
    WHEN key_class = 'customer'
      THEN 'The customer managed key ' || coalesce(key_alias, key_arn, raw_value, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || key_class || ', which this rule does not recognize.'
  END AS customer_managed_reason,
  key_class, key_arn, freshness,
  CASE WHEN freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM named
