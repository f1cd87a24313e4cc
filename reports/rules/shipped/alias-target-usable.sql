-- id: alias-target-usable
-- title: No alias points to an unusable key
-- severity: medium
-- family: aliases
-- why: >-
--   Applications address keys by alias. If the key behind the alias is disabled, has no material or is scheduled for
--   deletion, every call through the alias fails; for a scheduled deletion, the damage becomes permanent on the
--   deletion date.
-- fix: >-
--   Either make the key usable again (enable it, cancel its deletion or import its material), or move the alias to the
--   replacement key. Moving the alias only affects new data; existing data still needs the old key.
-- console: >-
--   In KMS, "Customer managed keys", open the key and choose "Key actions", "Enable" or "Cancel key deletion"; or move
--   the alias on the "Aliases" tab of the new key.
-- cli: |-
--   aws kms enable-key --key-id KEY_ARN
--   aws kms update-alias --alias-name alias/NAME --target-key-id NEW_KEY_ID
-- terraform: >-
--   Set target_key_id of aws_kms_alias to a usable key, or is_enabled = true in the key's aws_kms_key.
SELECT alias_arn AS resource_arn, account_id, region, target_key_arn AS key_arn,
  CASE
    WHEN target IN ('none', 'gone') THEN not_applicable('Its key does not exist: see alias-target-missing.')
    WHEN target = 'unknown' THEN unknown('Its key ' || target_key_arn
      || ' is not in the inventory, and not all keys of its account and region could be listed.')
    WHEN key_state IS NULL THEN unknown('Its key ' || target_key_arn || ' could not be described.')
    WHEN key_state = 'PendingDeletion' THEN fail('Its key ' || target_key_arn
      || coalesce(' will be deleted on ' || strftime(deletion_date, '%Y-%m-%d'), ' is scheduled for deletion') || '.')
    ELSE verdict_of(key_state IN ('Enabled', 'Creating', 'Updating'),
      'Its key ' || target_key_arn || ' is in state ' || key_state || '.')
  END AS verdict
FROM internal.alias_targets
