-- id: key-pending-deletion-unused
-- title: No unused customer managed key is scheduled for deletion
-- severity: low
-- family: state
-- why: >-
--   The deletion of a key that no known resource or grant needs, and that AWS has not recorded a use of, is usually the
--   end of a rotation that the application does itself. It is still irrevocable, and AWS records no use of data that
--   nobody reads, such as old backups and archived objects. Keys in use are evaluated by key-pending-deletion.
-- fix: >-
--   If the deletion is intended, do nothing. For keys that applications replace regularly, set the parameters tag,
--   description or accounts, so that they are not evaluated. If unsure, cancel the deletion: the key is then disabled
--   and keeps its monthly price, but nothing is lost.
-- console: >-
--   In KMS, "Customer managed keys", select the key and choose "Key actions", "Cancel key deletion".
-- cli: |-
--   aws kms get-key-last-usage --key-id KEY_ARN
--   aws kms cancel-key-deletion --key-id KEY_ARN
-- terraform: >-
--   Terraform schedules the deletion when an aws_kms_key is destroyed and cannot cancel it. Cancel the deletion first,
--   and import the key into the state again.
-- parameters:
--   tag:
--     default: ""
--     about: >-
--       Tag (KEY or KEY=VALUE) of keys that applications replace themselves: they are not evaluated. If several of tag,
--       description and accounts are set, a key must match all of them. Use the values of key-pending-deletion.
--   description:
--     default: ""
--     about: "The same, by a shell pattern for the description of the key."
--   accounts:
--     default: ""
--     about: "The same, by a comma-separated list of account IDs."
WITH candidate AS (
  SELECT k.*, $tag || $description || $accounts <> ''
      AND internal.selects($tag, $description, $accounts, k.tags, k.description, k.account_id) AS replaced,
    p.in_use, p.unknown_reason, p.message
  FROM internal.customer_keys k
  LEFT JOIN internal.pending_deletions p ON p.key_arn = k.key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN in_use THEN not_applicable('It is in use: see key-pending-deletion.')
    WHEN message IS NOT NULL AND replaced
      THEN not_applicable('The parameters select it as a key that its application replaces.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN message IS NOT NULL AND in_use IS NULL
      THEN unknown(message || '; could not determine whether something uses it' || unknown_reason || '.')
    WHEN message IS NOT NULL AND replaced IS NULL
      THEN unknown('It is scheduled for deletion; could not determine whether the parameters select it'
        || internal.because(failure_causes, ['kms:ListResourceTags']) || '.')
    WHEN message IS NOT NULL THEN fail(message || '. No resource and no grant needs it, and '
      || coalesce('it was last used on ' || strftime(last_used_at, '%Y-%m-%d'),
        'AWS has recorded no use since ' || strftime(last_use_tracked_since, '%Y-%m-%d')) || '.')
    WHEN message IS NULL THEN pass('No deletion is scheduled; the key is in state ' || state || '.')
  END AS verdict
FROM candidate
