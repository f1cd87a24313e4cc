-- id: key-tags-required
-- title: Customer managed keys have the required tags
-- severity: low
-- family: ownership
-- why: >-
--   Cost centers, data classifications and environments are looked up by tags. A key without them is missing from cost
--   reports and from every rule and policy that uses these tags.
-- fix: >-
--   Set the missing tags, preferably in the code that creates the key. If policies use aws:ResourceTag, first check
--   that the tag does not grant access. The parameter tags lists the required tags; if it is empty, the rule evaluates
--   nothing.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Tags", choose "Edit".
-- cli: |-
--   aws kms tag-resource --key-id KEY_ARN --tags TagKey=NAME,TagValue=VALUE
-- terraform: >-
--   In the aws_kms_key resource, set tags, or default_tags in the provider.
-- parameters:
--   tags:
--     default: ""
--     about: >-
--       Comma-separated list of required tags: NAME, or NAME=VALUE|VALUE to allow only these values; if empty, the rule
--       evaluates nothing.
SELECT key_arn AS resource_arn, account_id, region, key_arn, tags_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN tags IS NULL THEN unknown('Its tags could not be read'
      || internal.because(failure_causes, ['kms:ListResourceTags']) || '.')
    WHEN len(missing) > 0 THEN fail('The key lacks the required tags: ' || array_to_string(missing, ', ') || '.')
    WHEN len(missing) = 0 THEN pass('The key has all required tags.')
  END AS verdict
FROM (
  SELECT *,
    -- A required tag is NAME or NAME=VALUE|VALUE.
    list_filter(list_transform(string_split($tags, ','), lambda required_tag: trim(required_tag)), lambda required_tag:
      coalesce(tags[split_part(required_tag, '=', 1)], '') = '' OR (contains(required_tag, '=')
      AND NOT list_contains(string_split(split_part(required_tag, '=', 2), '|'),
        tags[split_part(required_tag, '=', 1)]))) AS missing
  FROM internal.customer_keys
  WHERE trim($tags) <> ''
)
