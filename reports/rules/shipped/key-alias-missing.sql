-- id: key-alias-missing
-- title: Customer managed keys have an alias
-- severity: low
-- family: aliases
-- why: >-
--   A key without an alias is just a UUID: it is hard to recognize in lists, in CloudTrail and in this report, and
--   configuration that refers to it must be changed when the key is replaced.
-- fix: >-
--   Create an alias that describes the purpose of the key. Nothing else changes: an alias is only an additional name.
--   Be careful if policies use kms:ResourceAliases or kms:RequestAlias, because an alias can then grant access.
--   Replicas of multi-Region keys need an alias in each region.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Aliases", choose "Create alias".
-- cli: |-
--   aws kms create-alias --alias-name alias/NAME --target-key-id KEY_ID
-- terraform: >-
--   Add an aws_kms_alias with name = "alias/NAME" and target_key_id = aws_kms_key.NAME.key_id.
WITH unlisted_scope AS (
  SELECT DISTINCT account_id, region FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListAliases'
), candidate AS (
  SELECT k.*, u.account_id IS NOT NULL AS aliases_unlisted
  FROM internal.customer_keys k
  LEFT JOIN unlisted_scope u ON u.account_id = k.account_id AND u.region = k.region
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR aliases_unlisted THEN 'unknown'
    WHEN len(aliases) = 0 THEN 'fail'
    WHEN len(aliases) > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN aliases_unlisted THEN 'The aliases of its account and region could not be listed.'
    WHEN len(aliases) = 0 THEN 'The key has no alias.'
    ELSE 'The key has the alias ' || alias || '.'
  END || stale_note AS reason
FROM candidate
