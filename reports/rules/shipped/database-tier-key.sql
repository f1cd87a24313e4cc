-- id: database-tier-key
-- title: Databases are encrypted with the key of the database tier
-- severity: high
-- family: databases
-- why: >-
--   A dedicated key per tier puts all decryption permissions of the tier into one policy and makes its use easy to
--   audit. This works only if the key exists, is usable, and actually encrypts the databases.
-- fix: >-
--   Create a symmetric customer managed key with the tag of the tier in the region, or tag the key that the databases
--   already use. The key of an existing RDS, Aurora, DocumentDB, Neptune or ElastiCache resource cannot be changed in
--   place: copy its snapshot with the new key, restore from the copy, and switch the applications. Before anything
--   else, enable a disabled key or cancel its deletion.
-- console: >-
--   In KMS, open the key, tab "Tags", and add the tag of the tier; in RDS, "Snapshots", choose "Actions", "Copy
--   snapshot" with the key of the tier as AWS KMS key, then restore from the copy.
-- cli: |-
--   aws kms tag-resource --key-id KEY_ARN --tags TagKey=DataTier,TagValue=database
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT --target-db-snapshot-identifier COPY --kms-key-id KEY_ARN
-- terraform: >-
--   Set tags = { DataTier = "database" } in aws_kms_key, and kms_key_id in aws_db_instance, aws_rds_cluster or
--   aws_elasticache_replication_group. A changed kms_key_id replaces the database, so restore it from the copy.
-- parameters:
--   tag: {default: DataTier, about: Tag key that marks the key of the tier.}
--   value: {default: database, about: Value of that tag.}

-- Databases are RDS, Aurora, DocumentDB and Neptune instances and clusters, and ElastiCache replication
-- groups, stand-alone clusters and serverless caches. Snapshots and backups follow their source.
-- Two kinds of rows: account/region (a usable key with the tag exists), and each database (its storage key is such a key; the
-- members of a cluster use the storage of the cluster).
WITH tier_key AS (
  SELECT k.*, k.tags IS NOT NULL AS tags_known, k.tags[$tag] IS NOT DISTINCT FROM $value AS tagged
  FROM keys k
  WHERE k.manager IS DISTINCT FROM 'AWS'
), database AS (
  SELECT * FROM resources
  WHERE resource_type IN (
    'AWS::RDS::DBInstance', 'AWS::RDS::DBCluster', 'AWS::DocDB::DBInstance', 'AWS::DocDB::DBCluster',
    'AWS::Neptune::DBInstance', 'AWS::Neptune::DBCluster', 'AWS::ElastiCache::ReplicationGroup',
    'AWS::ElastiCache::CacheCluster', 'AWS::ElastiCache::ServerlessCache'
  )
), account_region AS (
  SELECT d.account_id, d.region, d.databases,
    count(t.key_arn) FILTER (t.tagged) AS tagged,
    count(t.key_arn) FILTER (t.tagged AND t.state = 'Enabled' AND t.manager = 'CUSTOMER') AS usable,
    count(t.key_arn) FILTER (t.tagged AND (t.state IS NULL OR t.manager IS NULL)) AS undescribed,
    count(t.key_arn) FILTER (NOT t.tags_known) AS unread_tags,
    min(t.key_arn) FILTER (t.tagged AND t.state = 'Enabled' AND t.manager = 'CUSTOMER') AS key_arn,
    list_sort(list(DISTINCT coalesce(t.alias, t.key_id) || ' is ' || t.state)
      FILTER (t.tagged AND t.state <> 'Enabled')) AS states
  FROM (SELECT account_id, region, count(*) AS databases FROM database GROUP BY account_id, region) d
  LEFT JOIN tier_key t ON t.account_id = d.account_id AND t.region = d.region
  GROUP BY d.account_id, d.region, d.databases
), unlisted_scope AS (
  SELECT DISTINCT account_id, region FROM coverage
  WHERE outcome IN ('failed', 'excluded', 'suspended', 'left')
    OR (outcome = 'gap' AND service = 'kms' AND operation = 'ListKeys')
), database_key AS (
  SELECT d.*, u.key_class, u.reason, u.key_arn, coalesce(t.alias, u.key_alias, t.key_id, u.key_arn, u.raw_value) AS key_name,
    t.key_arn IS NOT NULL AS in_inventory, t.tags_known, t.tagged, t.state, u.resource_arn IS NOT NULL AS has_key_row
  FROM database d
  LEFT JOIN (
    SELECT * FROM resource_keys
    WHERE role IN ('storage', 'unknown') AND resource_arn IN (SELECT resource_arn FROM database)
    QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY role DESC, position) = 1
  ) u ON u.resource_arn = d.resource_arn
  LEFT JOIN tier_key t ON t.key_arn = u.key_arn
)
SELECT
  p.account_id || '/' || p.region AS resource_arn, p.account_id, p.region, p.key_arn,
  CASE
    WHEN p.usable = 0 AND (p.unread_tags > 0 OR p.undescribed > 0 OR l.account_id IS NOT NULL) THEN 'unknown'
    WHEN p.usable = 0 THEN 'fail'
    WHEN p.usable > 0 THEN 'pass'
  END AS status,
  CASE
    WHEN p.usable = 0 AND l.account_id IS NOT NULL
      THEN p.databases || ' database(s), but the keys in this account and region could not be listed, so a key tagged ' || $tag
        || '=' || $value
        || ' may exist.'
    WHEN p.usable = 0 AND (p.unread_tags > 0 OR p.undescribed > 0)
      THEN p.databases || ' database(s), but no usable key was found that is tagged ' || $tag || '=' || $value || '; '
        || (p.unread_tags + p.undescribed) || ' key(s) could not be read completely.'
    WHEN p.usable = 0 AND p.tagged > 0 THEN p.databases || ' database(s), but no key tagged ' || $tag || '=' || $value
      || ' can be used: ' || array_to_string(p.states, ', ') || '.'
    WHEN p.usable = 0 THEN p.databases || ' database(s), but no customer managed key is tagged ' || $tag || '=' || $value || '.'
    WHEN p.usable > 0 THEN p.usable || ' usable key(s) tagged ' || $tag || '=' || $value || ' for ' || p.databases
      || ' database(s).'
  END AS reason
FROM account_region p
LEFT JOIN unlisted_scope l ON l.account_id = p.account_id AND l.region = p.region
UNION ALL
SELECT
  u.resource_arn, u.account_id, u.region, u.key_arn,
  CASE
    WHEN (u.details ->> 'cluster') IS NOT NULL THEN 'not_applicable'
    WHEN NOT u.has_key_row OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class = 'customer' AND (NOT u.in_inventory OR NOT u.tags_known OR u.state IS NULL) THEN 'unknown'
    WHEN u.key_class IN ('none', 'aws_owned', 'aws_managed', 'dangling') THEN 'fail'
    WHEN u.key_class = 'customer' AND (NOT u.tagged OR u.state <> 'Enabled') THEN 'fail'
    WHEN u.key_class = 'customer' AND u.tagged THEN 'pass'
    ELSE 'unknown'
  END,
  CASE
    WHEN (u.details ->> 'cluster') IS NOT NULL THEN 'It is a member of cluster ' || (u.details ->> 'cluster')
      || ', whose storage it uses: the cluster is evaluated instead.'
    WHEN NOT u.has_key_row THEN 'Its storage key could not be determined: the crawl returned no data for it.'
    WHEN u.key_class = 'not_crawled' THEN 'Its key ' || coalesce(u.key_name, '')
      || ' is in an account or region that was not crawled, so its tags could not be read.'
    WHEN u.key_class = 'unknown'
      THEN 'Its storage key could not be determined: ' || coalesce(u.reason, 'no reason reported') || '.'
    WHEN u.key_class = 'customer' AND NOT u.in_inventory THEN 'Its key ' || u.key_name || ' is not in the inventory.'
    WHEN u.key_class = 'customer' AND NOT u.tags_known THEN 'The tags of its key ' || u.key_name || ' could not be read.'
    WHEN u.key_class = 'customer' AND u.state IS NULL THEN 'Its key ' || u.key_name || ' could not be described.'
    WHEN u.key_class = 'none' THEN 'Its storage is not encrypted with a KMS key.'
    WHEN u.key_class = 'aws_owned' THEN 'An AWS owned key encrypts its storage'
      || coalesce(' (' || u.encryption || ')', '') || '.'
    WHEN u.key_class = 'aws_managed' THEN 'The AWS managed key ' || coalesce(u.key_name, 'of the service')
      || ' encrypts its storage.'
    WHEN u.key_class = 'dangling' THEN 'Its key ' || coalesce(u.key_name, '') || ' no longer exists.'
    WHEN u.key_class = 'customer' AND NOT u.tagged
      THEN 'Its key ' || u.key_name || ' is not tagged ' || $tag || '=' || $value || '.'
    WHEN u.key_class = 'customer' AND u.state <> 'Enabled' THEN 'Its key ' || u.key_name || ' is tagged ' || $tag || '='
      || $value || ', but is in state ' || u.state || '.'
    WHEN u.key_class = 'customer' AND u.tagged THEN 'Its key ' || u.key_name || ' is tagged ' || $tag || '=' || $value
      || ' and enabled.'
    ELSE 'Its key has class ' || u.key_class || ', which this rule does not recognize.'
  END || CASE WHEN starts_with(coalesce(u.status, ''), 'inaccessible-encryption-credentials')
    THEN ' Its status is ' || u.status || '.' ELSE '' END
FROM database_key u
