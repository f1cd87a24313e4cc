-- id: key-owner-tag
-- title: Customer managed keys have an owner tag
-- severity: low
-- family: ownership
-- why: >-
--   A key scheduled for deletion, an overly permissive policy, expiring imported material: each requires a decision,
--   often within days. An owner tag turns a long search into a single message.
-- fix: >-
--   Tag the key with its team or mailing list, preferably in the code that creates the key. A tag policy of the
--   organization keeps the spelling consistent. If policies use aws:ResourceTag, first check that the tag does not
--   grant access.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Tags", choose "Edit".
-- cli: |-
--   aws kms tag-resource --key-id KEY_ARN --tags TagKey=Owner,TagValue=TEAM
-- terraform: >-
--   In the aws_kms_key resource, set tags = { Owner = "TEAM" }, or default_tags in the provider.
-- parameters:
--   tags:
--     default: "Owner, owner"
--     about: >-
--       Comma-separated list of owner tag keys; at least one of them must be set.
SELECT key_arn AS resource_arn, account_id, region, key_arn, tags_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN tags IS NULL THEN unknown('Its tags could not be read'
      || internal.because(failure_causes, ['kms:ListResourceTags']) || '.')
    WHEN owner IS NULL THEN fail('The key has no value for any of the tags ' || $tags || '.')
    WHEN owner <> '' THEN pass('The key is tagged ' || owner || '.')
  END AS verdict
FROM (
  SELECT *,
    list_filter(string_split(replace($tags, ' ', ''), ','), lambda name: trim(tags[name]) <> '')[1] AS tag,
    tag || '=' || tags[tag] AS owner
  FROM internal.customer_keys
)
