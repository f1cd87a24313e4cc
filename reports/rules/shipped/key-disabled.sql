-- id: key-disabled
-- title: No customer managed key is disabled
-- severity: low
-- family: state
-- why: >-
--   A disabled key costs as much as any other but does not encrypt, decrypt or rotate. Either it is being retired, and its
--   deletion should be decided, or it was disabled by mistake, and something will fail at its next restart or restore.
-- fix: >-
--   If something still needs the key, enable it. If nothing does, schedule its deletion with a long waiting period,
--   during which the deletion can be canceled. For a key that must stay disabled (an investigation, a legal hold), add
--   a waiver with an expiration date.
-- console: >-
--   In KMS, "Customer managed keys", select the key and choose "Key actions", "Enable" or "Schedule key deletion".
-- cli: |-
--   aws kms enable-key --key-id KEY_ARN
--   aws kms schedule-key-deletion --key-id KEY_ARN --pending-window-in-days 30
-- terraform: >-
--   In the aws_kms_key resource, set is_enabled = true, or remove the resource with deletion_window_in_days = 30.
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion', 'PendingImport', 'Unavailable')
      THEN not_applicable('The key is in state ' || state || ', which other rules cover.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN state = 'Disabled' THEN fail('The key is disabled.'
      || CASE WHEN dependent_resources > 0 THEN ' '
        || internal.counted(dependent_resources, 'resource uses it.', 'resources use it.') ELSE '' END)
    WHEN state IN ('Enabled', 'Creating', 'Updating') THEN pass('The key is in state ' || state || '.')
    ELSE unknown('The key is in state ' || state || ', which this rule does not recognize.')
  END AS verdict
FROM internal.customer_keys
