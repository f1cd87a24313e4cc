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
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn, k.stale_note AS note,
  CASE
    WHEN k.state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN k.manager IS NULL OR k.state IS NULL THEN internal.undescribed(k.failure_causes)
    WHEN l.aliases_unlisted THEN unknown('The aliases of its account and region could not be listed.')
    WHEN len(k.aliases) = 0 THEN fail('The key has no alias.')
    WHEN len(k.aliases) > 0 THEN pass('The key has the alias ' || k.alias || '.')
  END AS verdict
FROM internal.customer_keys k
LEFT JOIN internal.key_listings l ON l.account_id = k.account_id AND l.region = k.region
