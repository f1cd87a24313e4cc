-- id: alias-target-usable
-- title: No alias points at a key that cannot be used
-- severity: medium
-- family: aliases
-- why: >-
--   Applications know keys by their alias. If the key behind it is disabled, without material or about to be deleted,
--   each call by that name fails, and with a deletion ahead the last chance to notice has a date.
-- fix: >-
--   Either make the key usable again (enable it, cancel its deletion, import its material), or move the alias to the
--   key that took its place. Moving the alias changes with what new data is encrypted; data under the old key still
--   needs that key.
-- console: >-
--   In KMS, "Customer managed keys", open the key and choose "Key actions", "Enable" or "Cancel key deletion"; or
--   move the alias under "Aliases" of the new key.
-- cli: |-
--   aws kms enable-key --key-id KEY_ARN
--   aws kms update-alias --alias-name alias/NAME --target-key-id NEW_KEY_ID
-- terraform: >-
--   Set target_key_id of aws_kms_alias to a usable key, or is_enabled = true in the key's aws_kms_key.
WITH place AS (
  -- Where the listing of keys was seen in full, a key that is not in it does not exist.
  SELECT account_id, region FROM coverage WHERE operation IS NULL AND outcome IN ('complete', 'partial')
  EXCEPT
  SELECT account_id, region FROM coverage WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListKeys'
), named AS (
  SELECT a.alias_arn, a.alias_name, a.account_id, a.region, a.target_key_arn, k.key_arn, k.state, k.deletion_date,
    p.account_id IS NOT NULL AS listed
  FROM aliases a
  LEFT JOIN keys k ON k.key_arn = a.target_key_arn
  LEFT JOIN place p ON p.account_id = a.account_id AND p.region = a.region
  -- The predefined aliases of AWS point at nothing until they are used.
  WHERE NOT starts_with(a.alias_name, 'alias/aws/')
)
SELECT
  alias_arn AS resource_arn, account_id, region, target_key_arn AS key_arn,
  CASE
    WHEN target_key_arn IS NULL OR (key_arn IS NULL AND listed) THEN 'not_applicable'
    WHEN key_arn IS NULL OR state IS NULL THEN 'unknown'
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'fail'
    WHEN state IN ('Enabled', 'Creating', 'Updating') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN target_key_arn IS NULL OR (key_arn IS NULL AND listed)
      THEN 'Its key does not exist, which another rule judges.'
    WHEN key_arn IS NULL THEN 'Its key ' || target_key_arn
      || ' is not in the inventory, and not all keys of its account and region could be listed.'
    WHEN state IS NULL THEN 'Its key ' || key_arn || ' could not be described.'
    WHEN state = 'PendingDeletion' THEN 'Its key ' || key_arn || coalesce(' will be deleted on '
      || strftime(deletion_date, '%Y-%m-%d'), ' is scheduled for deletion') || '.'
    ELSE 'Its key ' || key_arn || ' is in state ' || state || '.'
  END AS reason
FROM named
