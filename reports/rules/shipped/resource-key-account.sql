-- id: resource-key-account
-- title: No data is under a key of a stranger
-- severity: critical
-- family: use
-- why: >-
--   Whoever owns the key owns the data: the other account can disable or delete it at any time, and you can neither
--   prevent nor undo that. Snapshots that were copied from a partner and accounts that left the organization are the
--   usual ways there.
-- fix: >-
--   Put the data under a key of your own while the other one still works: copy the snapshot or objects with your key,
--   restore, and move over. If the foreign key is agreed, name its account in the rule's parameter.
-- console: >-
--   Open the resource in the console of its service, take a copy of it, and choose a key of your own account for the
--   copy.
-- cli: |-
--   aws rds copy-db-snapshot --source-db-snapshot-identifier SNAPSHOT_ARN --target-db-snapshot-identifier COPY \
--     --kms-key-id OWN_KEY_ARN
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id OWN_KEY_ARN
-- terraform: >-
--   Set kms_key_id of the resource to aws_kms_key.NAME.arn of its own account; for most services that replaces the
--   resource.
-- parameters:
--   accounts:
--     default: ""
--     about: >-
--       Ids of accounts outside the organization whose keys are agreed, separated by commas.
WITH ours AS (
  SELECT DISTINCT account_id FROM accounts WHERE state IS DISTINCT FROM 'LEFT'
), agreed AS (
  SELECT trim(unnest(string_split($accounts, ','))) AS account_id
), named AS (
  -- The owner stands in the reference itself, even where the key cannot be seen.
  SELECT u.resource_arn, u.account_id, u.role, coalesce(u.key_arn, u.raw_value) AS name,
    coalesce(u.key_arn, CASE WHEN u.raw_value LIKE 'arn:%:kms:%' THEN u.raw_value END) AS arn,
    CASE
      WHEN u.key_arn IS NOT NULL THEN u.key_account_id
      WHEN u.raw_value LIKE 'arn:%:kms:%' THEN split_part(u.raw_value, ':', 5)
      WHEN u.format IN ('key_id', 'alias_name') OR u.key_class = 'aws_managed' THEN u.account_id
    END AS owner,
    u.key_class NOT IN ('none', 'aws_owned') AS counts
  FROM resource_keys u
), summed AS (
  SELECT resource_arn, count(*) FILTER (counts) AS keys, count(*) FILTER (counts AND owner IS NULL) AS open,
    min(arn) FILTER (counts AND arn LIKE '%:key/%') AS key_arn
  FROM named
  GROUP BY resource_arn
), abroad AS (
  SELECT n.resource_arn,
    count(*) FILTER (o.account_id IS NULL AND a.account_id IS NULL) AS foreign_keys,
    array_to_string(list_sort(list(DISTINCT n.role || ' ' || n.name)
      FILTER (o.account_id IS NULL AND a.account_id IS NULL)), '; ') AS problems,
    array_to_string(list_sort(list(DISTINCT n.owner)), ', ') AS owners,
    min(n.arn) FILTER (o.account_id IS NULL AND a.account_id IS NULL AND n.arn LIKE '%:key/%') AS key_arn
  FROM named n
  LEFT JOIN ours o ON o.account_id = n.owner
  LEFT JOIN agreed a ON a.account_id = n.owner
  WHERE n.counts AND n.owner <> n.account_id
  GROUP BY n.resource_arn
)
SELECT
  s.resource_arn, s.account_id, s.region, coalesce(b.key_arn, u.key_arn) AS key_arn,
  CASE
    WHEN u.keys = 0 THEN 'not_applicable'
    WHEN u.resource_arn IS NULL OR (coalesce(b.foreign_keys, 0) = 0 AND u.open > 0) THEN 'unknown'
    WHEN b.foreign_keys > 0 THEN 'fail'
    WHEN coalesce(b.foreign_keys, 0) = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.keys = 0 THEN 'It names no key of an account.'
    WHEN u.resource_arn IS NULL THEN 'Its key could not be determined: the crawl returned no data for it.'
    WHEN b.foreign_keys > 0
      THEN 'It is under a key of an account that is not of the organization: ' || b.problems || '.'
    WHEN u.open > 0 THEN 'The account of a key of it is not known.'
    WHEN b.resource_arn IS NOT NULL THEN 'Its keys are of accounts that are known: ' || b.owners || '.'
    ELSE 'Its keys are of its own account.'
  END || CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN summed u ON u.resource_arn = s.resource_arn
LEFT JOIN abroad b ON b.resource_arn = s.resource_arn
