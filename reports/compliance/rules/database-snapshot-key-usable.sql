-- id: database-snapshot-key-usable
-- title: Snapshots and backups of databases can be decrypted
-- severity: high
-- family: databases
-- why: >-
--   A backup is only as good as its key. Snapshots outlive databases and their keys, so a key that nothing seems to use
--   may be the only way to years of backups; that they cannot be restored is noticed on the day they are needed.
-- fix: >-
--   Enable the key, or cancel its deletion, before you do anything else. To retire a key, copy the snapshots that you
--   want to keep under another key while the old one still works, and delete the rest.
-- console: >-
--   In KMS open the key and choose "Key actions", "Cancel key deletion" or "Enable"; in RDS, "Snapshots", copy what is
--   to be kept under another key.
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT --target-db-snapshot-identifier COPY \
--     --kms-key-id OTHER_KEY_ARN
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key; copies under another key are aws_db_snapshot_copy resources.
WITH judged AS (
  SELECT u.resource_arn, u.key_arn, u.role,
    CASE
      WHEN u.key_class = 'none' THEN 'none'
      WHEN u.key_class = 'dangling' THEN 'broken'
      WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN 'usable'
      WHEN u.key_class = 'customer' AND u.key_state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'broken'
      WHEN u.key_class = 'customer' AND u.key_state IS NOT NULL THEN 'usable'
      ELSE 'open'
    END AS standing,
    coalesce('The key ' || coalesce(u.key_alias, u.key_arn, u.raw),
      CASE WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN 'A key of the service' ELSE 'Its key' END)
      || CASE WHEN u.role IN ('storage', 'secret', 'default-encryption', 'trail', 'unknown')
        THEN '' ELSE ' (' || u.role || ')' END AS name,
    CASE
      WHEN u.key_class = 'dangling' THEN ' no longer exists'
      WHEN u.key_class = 'not_crawled' THEN ' is in an account or region that was not crawled'
      WHEN u.key_class = 'customer' AND k.deletion_date IS NOT NULL
        THEN ' will be deleted on ' || strftime(k.deletion_date, '%Y-%m-%d')
      WHEN u.key_class = 'customer' AND u.key_state IS NULL THEN ' could not be described'
      WHEN u.key_class = 'customer' THEN ' is in state ' || u.key_state
      WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN ' is kept by AWS'
      ELSE ' is not known: ' || coalesce(u.reason, 'no reason was given')
    END AS what
  FROM key_usage u
  LEFT JOIN keys k ON k.key_arn = u.key_arn
  WHERE u.resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot',
    'AWS::RDS::DBInstanceAutomatedBackup', 'AWS::RDS::DBClusterAutomatedBackup')
), summed AS (
  SELECT resource_arn,
    count(*) FILTER (standing = 'broken') AS broken, count(*) FILTER (standing = 'open') AS open,
    count(*) FILTER (standing = 'usable') AS usable,
    array_to_string(list_sort(list(name || what) FILTER (standing = 'broken')), '; ') AS problems,
    array_to_string(list_sort(list(name || what) FILTER (standing = 'open')), '; ') AS doubts,
    array_to_string(list_sort(list(name || what) FILTER (standing = 'usable')), '; ') AS fine,
    coalesce(min(key_arn) FILTER (standing = 'broken'), min(key_arn)) AS key_arn
  FROM judged
  GROUP BY resource_arn
)
SELECT
  s.resource_arn, s.account_id, s.region, j.key_arn,
  CASE
    WHEN j.broken + j.open + j.usable = 0 THEN 'not_applicable'
    WHEN (j.resource_arn IS NULL OR (j.broken = 0 AND j.open > 0)) THEN 'unknown'
    WHEN j.broken > 0 THEN 'fail'
    WHEN j.usable > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN j.broken + j.open + j.usable = 0 THEN 'It is not encrypted with a KMS key.'
    WHEN j.resource_arn IS NULL THEN 'Its key is not known: the crawl has no answer for it.'
    WHEN j.broken > 0 THEN j.problems || '.'
    WHEN j.open > 0 THEN j.doubts || '.'
    ELSE j.fine || '.'
  END
    || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN summed j ON j.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::RDS::DBSnapshot', 'AWS::RDS::DBClusterSnapshot', 'AWS::RDS::DBInstanceAutomatedBackup',
  'AWS::RDS::DBClusterAutomatedBackup')
