-- id: key-description-missing
-- title: Customer managed keys have a description
-- severity: info
-- family: ownership
-- why: >-
--   The description is shown with a key in every tool and account. It costs nothing and documents what the key
--   protects, even after its creator has left.
-- fix: >-
--   Describe what the key protects and who may decide about it. A description can be changed at any time and does not
--   affect access to the key; do not put secrets into it.
-- console: >-
--   In KMS, "Customer managed keys", open the key and choose "Edit" next to "General configuration".
-- cli: |-
--   aws kms update-key-description --key-id KEY_ARN --description TEXT
-- terraform: >-
--   In the aws_kms_key resource, set description.
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN description IS NULL THEN unknown('AWS did not report its description.')
    WHEN trim(description) = '' THEN fail('The key has no description.')
    WHEN trim(description) <> '' THEN pass('The key has a description.')
  END AS verdict
FROM internal.customer_keys
