-- id: key-alias-missing
-- title: Customer managed keys have an alias
-- severity: low
-- family: aliases
-- why: >-
--   A key without an alias is a UUID: nobody recognises it in a list, in CloudTrail or in this report, and
--   configuration that names it has to be changed when the key is replaced.
-- fix: >-
--   Create an alias that tells what the key is for. That moves nothing: an alias is only a further name. Take care
--   where policies use kms:ResourceAliases or kms:RequestAlias: an alias can then let somebody in. Replicas of
--   multi-Region keys need an alias in each region.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Aliases", choose "Create alias".
-- cli: |-
--   aws kms create-alias --alias-name alias/NAME --target-key-id KEY_ID
-- terraform: >-
--   Add a resource aws_kms_alias with name = "alias/NAME" and target_key_id = aws_kms_key.NAME.key_id.
WITH unlisted AS (
  SELECT DISTINCT account_id, region FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListAliases'
), considered AS (
  SELECT k.*, u.account_id IS NOT NULL AS unlisted
  FROM internal.customer_keys k
  LEFT JOIN unlisted u ON u.account_id = k.account_id AND u.region = k.region
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR unlisted THEN 'unknown'
    WHEN len(aliases) = 0 THEN 'fail'
    WHEN len(aliases) > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN unlisted THEN 'The aliases of its account and region could not be listed.'
    WHEN len(aliases) = 0 THEN 'The key has no alias.'
    ELSE 'The key has the alias ' || alias || '.'
  END || stale_note AS reason
FROM considered
