-- id: resource-key-account
-- title: No resource is encrypted with a key of an unknown account
-- severity: critical
-- family: use
-- why: >-
--   The owner of the key controls the data: the other account can disable or delete the key at any time, and you can
--   neither prevent nor undo it. Typical causes are snapshots copied from a partner and accounts that left the
--   organization.
-- fix: >-
--   Re-encrypt the data with a key of your own while the other key still works: copy the snapshot or objects with your
--   key, restore, and switch over. If the external key is intended, add its account to the parameter accounts.
-- console: >-
--   Open the resource in the console of its service, copy it, and choose a key of your own account for the copy.
-- cli: |-
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT_ARN --target-db-snapshot-identifier COPY \
--     --kms-key-id OWN_KEY_ARN
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id OWN_KEY_ARN
-- terraform: >-
--   Set kms_key_id of the resource to aws_kms_key.NAME.arn of its own account; for most services, this replaces the
--   resource.
-- parameters:
--   accounts:
--     default: ""
--     about: >-
--       Comma-separated list of account IDs outside the organization whose keys may be used.
WITH organization_account AS (
  SELECT DISTINCT account_id FROM accounts WHERE state IS DISTINCT FROM 'LEFT'
), allowed_account AS (
  SELECT trim(unnest(string_split($accounts, ','))) AS account_id
), key_reference AS (
  -- The reference itself contains the owner, even if the key is not readable.
  SELECT u.resource_arn, u.account_id, u.role, u.reason, coalesce(u.key_arn, u.raw_value) AS name,
    coalesce(u.key_arn, CASE WHEN u.format IN ('key_arn', 'alias_arn') THEN u.raw_value END) AS arn,
    CASE
      WHEN u.key_arn IS NOT NULL THEN u.key_account_id
      WHEN u.format IN ('key_arn', 'alias_arn') THEN split_part(u.raw_value, ':', 5)
      WHEN u.format = 'alias_name' OR u.key_class = 'aws_managed' THEN u.account_id
    END AS owner,
    u.key_class NOT IN ('none', 'aws_owned') AS is_relevant
  FROM resource_keys u
), key_counts AS (
  SELECT resource_arn, count(*) FILTER (is_relevant) AS keys, count(*) FILTER (is_relevant AND owner IS NULL) AS undetermined,
    array_to_string(list_sort(list(DISTINCT reason) FILTER (is_relevant AND owner IS NULL)), '; ') AS reasons,
    min(arn) FILTER (is_relevant AND arn LIKE '%:key/%') AS key_arn
  FROM key_reference
  GROUP BY resource_arn
), cross_account_key AS (
  SELECT n.resource_arn,
    count(*) FILTER (o.account_id IS NULL AND a.account_id IS NULL) AS foreign_keys,
    array_to_string(list_sort(list(DISTINCT n.role || ' ' || n.name)
      FILTER (o.account_id IS NULL AND a.account_id IS NULL)), '; ') AS problems,
    array_to_string(list_sort(list(DISTINCT n.owner)), ', ') AS owners,
    min(n.arn) FILTER (o.account_id IS NULL AND a.account_id IS NULL AND n.arn LIKE '%:key/%') AS key_arn
  FROM key_reference n
  LEFT JOIN organization_account o ON o.account_id = n.owner
  LEFT JOIN allowed_account a ON a.account_id = n.owner
  WHERE n.is_relevant AND n.owner <> n.account_id
  GROUP BY n.resource_arn
)
SELECT s.resource_arn, s.account_id, s.region, coalesce(b.key_arn, u.key_arn) AS key_arn,
  CASE
    WHEN u.keys = 0 THEN not_applicable('It uses no key with a known owner account.')
    WHEN u.resource_arn IS NULL THEN unknown('Its key could not be determined: the crawl returned no data for it.')
    WHEN b.foreign_keys > 0 THEN fail('It uses a key of an account outside the organization: ' || b.problems || '.')
    WHEN u.undetermined > 0 THEN unknown('The account of one of its keys could not be determined: '
      || coalesce(u.reasons, 'no reason reported') || '.')
    WHEN b.foreign_keys = 0 THEN pass('Its keys belong to allowed accounts: ' || b.owners || '.')
    WHEN b.resource_arn IS NULL THEN pass('Its keys belong to its own account.')
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN key_counts u ON u.resource_arn = s.resource_arn
LEFT JOIN cross_account_key b ON b.resource_arn = s.resource_arn
