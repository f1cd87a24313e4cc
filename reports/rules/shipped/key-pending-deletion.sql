-- id: key-pending-deletion
-- title: No customer managed key in use is scheduled for deletion
-- severity: critical
-- family: state
-- why: >-
--   Deleting a key makes everything ever encrypted under it unreadable: databases, snapshots, backups and secrets,
--   including data that is not in use today. Until the date in the reason, the deletion can be canceled; after that,
--   nobody can undo it, not even AWS. A key is in use if a known resource or a grant needs
--   it, or if AWS recorded a use in the last 90 days; key-pending-deletion-unused evaluates the others.
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
    k.dependent_resources > 0 OR k.grants > 0 AS has_dependents, n.unread_resources, p.in_use, p.unknown_reason, p.message
  FROM internal.customer_keys k
  LEFT JOIN internal.pending_deletions p ON p.key_arn = k.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN NOT in_use THEN not_applicable('Nothing uses it: see key-pending-deletion-unused.')
    WHEN message IS NOT NULL AND replaced AND NOT has_dependents AND len(unread_resources) = 0
      THEN not_applicable('The parameters select it as a key that its application replaces, and nothing is known to use it.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN message IS NOT NULL AND replaced IS NULL AND has_dependents IS NOT TRUE
      THEN unknown('It is scheduled for deletion; could not determine whether the parameters select it'
        || internal.because(failure_causes, ['kms:ListResourceTags']) || '.')
    WHEN message IS NOT NULL AND (in_use IS NULL OR replaced AND has_dependents IS NOT TRUE)
      THEN unknown(message || '; could not determine whether something uses it' || unknown_reason || '.')
    WHEN in_use THEN fail(message || '.')
    WHEN state IN ('Enabled', 'Disabled', 'Creating', 'Updating', 'PendingImport', 'Unavailable')
      THEN pass('No deletion is scheduled; the key is in state ' || state || '.')
    ELSE unknown('The key is in state ' || state || ', which this rule does not recognize.')
  END AS verdict,
  CASE
    WHEN in_use AND dependent_resources > 0 THEN ' ' || internal.counted(dependent_resources, 'resource uses it.', 'resources use it.')
    WHEN in_use AND grants > 0 THEN ' It has ' || internal.counted(grants, 'grant.', 'grants.')
    WHEN in_use THEN ' It was last used on ' || strftime(last_used_at, '%Y-%m-%d') || '.'
    ELSE ''
  END || stale_note AS note
FROM candidate
