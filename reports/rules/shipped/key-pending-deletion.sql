-- id: key-pending-deletion
-- title: No customer managed key is scheduled for deletion
-- severity: critical
-- family: state
-- why: >-
--   Deleting a key makes everything ever encrypted under it unreadable: databases, snapshots, backups and secrets,
--   including data that is not in use today. Until the date in the reason, the deletion can be canceled; after that,
--   nobody can undo it, not even AWS.
-- fix: >-
--   Find out who scheduled the deletion (CloudTrail: ScheduleKeyDeletion) and what still depends on the key (kmsledger
--   lists the known resources and grants). If unsure, cancel the deletion: the key is then disabled and keeps its
--   monthly price, but nothing is lost. Enable it if something needs it. If the deletion is intended, waive this
--   finding until the deletion date.
-- console: >-
--   In KMS, "Customer managed keys", select the key and choose "Key actions", "Cancel key deletion".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   Terraform schedules the deletion when an aws_kms_key is destroyed and cannot cancel it. Cancel the deletion first,
--   import the key into the state again, and set lifecycle { prevent_destroy = true }.
-- parameters:
--   tag:
--     default: ""
--     about: >-
--       Tag (KEY or KEY=VALUE) of keys that applications replace themselves: they are not evaluated unless something uses
--       them. If several of tag, description and accounts are set, a key must match all of them.
--   description:
--     default: ""
--     about: "The same, by a shell pattern for the description of the key."
--   accounts:
--     default: ""
--     about: "The same, by a comma-separated list of account IDs."
WITH candidate AS (
  SELECT k.*, $tag || $description || $accounts <> ''
      AND internal.selects($tag, $description, $accounts, k.tags, k.description, k.account_id) AS replaced,
    k.dependent_resources > 0 OR k.grants > 0 AS in_use, n.denied_resource_actions AS denied_listings
  FROM internal.customer_keys k
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state LIKE 'Pending%Deletion' AND replaced AND NOT in_use AND len(denied_listings) = 0
      THEN not_applicable('The parameters select it as a key that its application replaces, and nothing is known to use it.')
    WHEN manager IS NULL OR state IS NULL THEN unknown('The key could not be described'
      || internal.denied(denied_actions, ['kms:DescribeKey']) || '.')
    WHEN state LIKE 'Pending%Deletion' AND replaced IS NULL AND in_use IS NOT TRUE
      THEN unknown('It is scheduled for deletion; could not determine whether the parameters select it'
        || internal.denied(denied_actions, ['kms:ListResourceTags']) || '.')
    WHEN state LIKE 'Pending%Deletion' AND replaced AND in_use IS NOT TRUE
      THEN unknown('It is scheduled for deletion; could not determine whether something uses it'
        || internal.denied(list_concat(denied_actions, denied_listings), list_append(denied_listings, 'kms:ListGrants')) || '.')
    WHEN state = 'PendingDeletion' THEN fail(
      coalesce('The key will be deleted on ' || strftime(deletion_date, '%Y-%m-%d'), 'The key is scheduled for deletion') || '.')
    WHEN state = 'PendingReplicaDeletion' THEN fail('The key will be deleted after its replicas are deleted'
      || coalesce(' and after another ' || pending_window_days || ' days', '') || '.')
    WHEN state IN ('Enabled', 'Disabled', 'Creating', 'Updating', 'PendingImport', 'Unavailable')
      THEN pass('No deletion is scheduled; the key is in state ' || state || '.')
    ELSE unknown('The key is in state ' || state || ', which this rule does not recognize.')
  END AS verdict,
  CASE WHEN state LIKE 'Pending%Deletion' AND dependent_resources > 0
    THEN ' ' || internal.counted(dependent_resources, 'resource uses it.', 'resources use it.') ELSE '' END || stale_note AS note
FROM candidate
