-- id: key-tags-required
-- title: Customer managed keys have the required tags
-- severity: low
-- family: ownership
-- why: >-
--   Cost centres, data classes and environments are looked up by tags: a key without them is missing in the bill's
--   breakdown, and in every rule and policy that goes by them.
-- fix: >-
--   Set the missing tags, best in the code that creates the key. Where policies use aws:ResourceTag, check first that
--   the tag lets nobody in. Which tags are asked for is the parameter tags; without it the rule judges nothing.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Tags", choose "Edit".
-- cli: |-
--   aws kms tag-resource --key-id KEY_ARN --tags TagKey=NAME,TagValue=VALUE
-- terraform: >-
--   In the resource aws_kms_key set tags, or default_tags in the provider.
-- parameters:
--   tags:
--     default: ""
--     about: >-
--       The required tags, separated by commas: NAME, or NAME=VALUE|VALUE for those values only; empty: the rule
--       judges nothing.
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR tags IS NULL THEN 'unknown'
    WHEN len(missing) > 0 THEN 'fail'
    WHEN len(missing) = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN tags IS NULL THEN 'Its tags could not be read' || denied_note || '.'
    WHEN len(missing) > 0 THEN 'The key has no tag ' || array_to_string(missing, ', ') || '.'
    ELSE 'The key has all required tags.'
  END || stale_note AS reason
FROM (
  SELECT *,
    -- A tag is asked for as NAME, or as NAME=VALUE|VALUE.
    list_filter(list_transform(string_split($tags, ','), lambda one: trim(one)), lambda one:
      coalesce(tags[split_part(one, '=', 1)], '') = '' OR (contains(one, '=')
      AND NOT list_contains(string_split(split_part(one, '=', 2), '|'), tags[split_part(one, '=', 1)]))) AS missing
  FROM internal.customer_keys
  WHERE trim($tags) <> ''
)
