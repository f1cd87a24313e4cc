-- id: key-owner-tag
-- title: Customer managed keys name their owner
-- severity: low
-- family: ownership
-- why: >-
--   A key about to be deleted, a policy that is too open, an expiring import: each needs somebody to decide, often
--   within days. A tag with the owner turns a morning of asking around into one message.
-- fix: >-
--   Tag the key with its team or mailing list, and let the tag come with the key from the code that creates it. A tag
--   policy of the organization keeps the spelling the same. Where policies use aws:ResourceTag, check first that the
--   tag lets nobody in.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Tags", choose "Edit".
-- cli: |-
--   aws kms tag-resource --key-id KEY_ARN --tags TagKey=Owner,TagValue=TEAM
-- terraform: >-
--   In the resource aws_kms_key set tags = { Owner = "TEAM" }, or default_tags in the provider.
-- parameters:
--   tags:
--     default: "Owner, owner"
--     about: >-
--       The keys of tags that name an owner, separated by commas; one of them has to be there.
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR tags IS NULL THEN 'unknown'
    WHEN owner IS NULL THEN 'fail'
    WHEN owner <> '' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN tags IS NULL THEN 'Its tags could not be read' || denied_note || '.'
    WHEN owner IS NULL THEN 'The key has none of the tags ' || $tags || ', or an empty one.'
    ELSE 'The key is tagged ' || owner || '.'
  END || stale_note AS reason
FROM (
  SELECT *,
    list_filter(string_split(replace($tags, ' ', ''), ','), lambda name: trim(tags[name]) <> '')[1] AS tag,
    tag || '=' || tags[tag] AS owner
  FROM internal.customer_keys
)
