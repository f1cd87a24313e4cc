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
--   tag: {default: "", about: "Tag key that marks the key of the tier, for example DataTier; if empty, the rule evaluates nothing."}
--   value: {default: "", about: "Value of that tag, for example database."}

WITH tier_key AS (
  SELECT *, tags IS NOT NULL AS tags_known, tags[$tag] IS NOT DISTINCT FROM $value AS tagged
  FROM keys
  WHERE manager IS DISTINCT FROM 'AWS'
), database AS (
  SELECT r.*, $tag || '=' || $value AS required_tag, e.not_applicable_reason
  FROM resources r
  LEFT JOIN resource_encryption e ON e.resource_arn = r.resource_arn AND e.role = 'storage'
  WHERE r.resource_type IN (
    'AWS::RDS::DBInstance', 'AWS::RDS::DBCluster', 'AWS::DocDB::DBInstance', 'AWS::DocDB::DBCluster',
    'AWS::Neptune::DBInstance', 'AWS::Neptune::DBCluster', 'AWS::ElastiCache::ReplicationGroup',
    'AWS::ElastiCache::CacheCluster', 'AWS::ElastiCache::ServerlessCache'
  )
), account_region AS (
  SELECT d.account_id, d.region, d.databases, d.required_tag,
    count(t.key_arn) FILTER (t.tagged) AS tagged,
    count(t.key_arn) FILTER (t.tagged AND t.state = 'Enabled' AND t.manager = 'CUSTOMER') AS usable,
    count(t.key_arn) FILTER (t.tagged AND (t.state IS NULL OR t.manager IS NULL))
      + count(t.key_arn) FILTER (NOT t.tags_known) AS unread,
    min(t.key_arn) FILTER (t.tagged AND t.state = 'Enabled' AND t.manager = 'CUSTOMER') AS key_arn,
    list_sort(list(DISTINCT coalesce(t.alias, t.key_id) || ' is ' || t.state)
      FILTER (t.tagged AND t.state <> 'Enabled')) AS states
  FROM (
    SELECT account_id, region, required_tag, count(*) AS databases FROM database
    WHERE not_applicable_reason IS NULL OR (details ->> 'cluster') IS NOT NULL
    GROUP BY ALL
  ) d
  LEFT JOIN tier_key t ON t.account_id = d.account_id AND t.region = d.region
  GROUP BY d.account_id, d.region, d.databases, d.required_tag
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
SELECT p.account_id || '/' || p.region AS resource_arn, p.account_id, p.region, p.key_arn,
  CASE
    WHEN $tag = '' THEN not_applicable('The parameter tag is not set, so no key is the key of the database tier.')
    WHEN p.usable > 0
      THEN pass(internal.counted(p.usable, 'usable key', 'usable keys') || ' tagged ' || p.required_tag || ' for '
        || internal.counted(p.databases, 'database.', 'databases.'))
    WHEN l.account_id IS NOT NULL
      THEN unknown(internal.counted(p.databases, 'database', 'databases')
        || ', but the keys in this account and region could not be listed, so a key tagged '
        || p.required_tag || ' may exist.')
    WHEN p.unread > 0
      THEN unknown(internal.counted(p.databases, 'database', 'databases') || ', but no usable key was found that is tagged '
        || p.required_tag || '; '
        || internal.counted(p.unread, 'key', 'keys') || ' could not be read completely.')
    WHEN p.tagged > 0
      THEN fail(internal.counted(p.databases, 'database', 'databases') || ', but no key tagged ' || p.required_tag
        || ' can be used: '
        || array_to_string(p.states, ', ') || '.')
    WHEN p.usable = 0 THEN fail(internal.counted(p.databases, 'database', 'databases')
      || ', but no customer managed key is tagged ' || p.required_tag || '.')
  END AS verdict,
  NULL AS note
FROM account_region p
LEFT JOIN unlisted_scope l ON l.account_id = p.account_id AND l.region = p.region
UNION ALL
SELECT resource_arn, account_id, region, key_arn,
  CASE
    WHEN $tag = '' THEN not_applicable('The parameter tag is not set, so no key is the key of the database tier.')
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    WHEN NOT has_key_row THEN unknown('Its storage key could not be determined: the crawl returned no data for it.')
    WHEN key_class = 'not_crawled' THEN unknown('Its key ' || coalesce(key_name, '')
      || ' is in an account or region that was not crawled, so its tags could not be read.')
    WHEN key_class = 'unknown'
      THEN unknown('Its storage key could not be determined: ' || coalesce(reason, 'no reason reported') || '.')
    WHEN key_class = 'none' THEN fail('Its storage is not encrypted with a KMS key.')
    WHEN key_class = 'aws_owned'
      THEN fail('An AWS owned key encrypts its storage'
        || CASE WHEN starts_with(encryption, 'sse-') THEN ' (' || encryption || ')' ELSE '' END || '.')
    WHEN key_class = 'aws_managed'
      THEN fail('The AWS managed key ' || coalesce(key_name, 'of the service') || ' encrypts its storage.')
    WHEN key_class = 'dangling' THEN fail('Its key ' || coalesce(key_name, '') || ' no longer exists.')
    WHEN key_class <> 'customer' THEN unknown('Its key has class ' || key_class || ', which this rule does not recognize.')
    WHEN NOT in_inventory THEN unknown('Its key ' || key_name || ' is not in the inventory.')
    WHEN NOT tags_known THEN unknown('The tags of its key ' || key_name || ' could not be read.')
    WHEN state IS NULL THEN unknown('Its key ' || key_name || ' could not be described.')
    WHEN NOT tagged THEN fail('Its key ' || key_name || ' is not tagged ' || required_tag || '.')
    WHEN state <> 'Enabled'
      THEN fail('Its key ' || key_name || ' is tagged ' || required_tag || ', but is in state ' || state || '.')
    WHEN tagged THEN pass('Its key ' || key_name || ' is tagged ' || required_tag || ' and enabled.')
  END,
  CASE WHEN starts_with(status, 'inaccessible-encryption-credentials') THEN ' Its status is ' || status || '.' END
FROM database_key
