-- id: multi-region-tags-differ
-- title: Replicas have the same tags as their primary
-- severity: low
-- family: multi-region
-- why: >-
--   Tags are not copied when a key is replicated, and each copy is tagged separately. If tags control access to a key
--   or identify the on-call team, a replica with different tags is open to other principals or belongs to nobody.
-- fix: >-
--   Set the tags named in the reason on the replica, or on the primary if that copy is wrong. Be careful if IAM or key
--   policies use aws:ResourceTag: setting a tag can grant access. Add tags that differ intentionally (such as a region
--   name) to the parameter ignore.
-- console: >-
--   In KMS, "Customer managed keys", open the replica, tab "Tags", choose "Edit".
-- cli: |-
--   aws kms tag-resource --region REPLICA_REGION --key-id KEY_ID --tags TagKey=NAME,TagValue=VALUE
-- terraform: >-
--   Give aws_kms_key and aws_kms_replica_key the same tags, or set default_tags in both providers.
-- parameters:
--   ignore: {default: "", about: "Comma-separated list of tag keys that may differ."}
WITH candidate AS (
  SELECT k.*, p.tags AS primary_tags,
    list_sort(list_filter(list_distinct(list_concat(map_keys(k.tags), map_keys(p.tags))), lambda name:
      NOT starts_with(name, 'aws:') AND NOT list_contains(string_split(replace($ignore, ' ', ''), ','), name)
      AND k.tags[name] IS DISTINCT FROM p.tags[name])) AS different
  FROM internal.customer_keys k
  LEFT JOIN keys p ON p.key_arn = k.primary_arn
  -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
  WHERE k.multi_region_type = 'REPLICA' OR (k.multi_region IS NULL
    AND NOT regexp_full_match(k.key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, tags_note AS note,
  CASE
    WHEN manager IS NULL OR multi_region IS NULL THEN internal.undescribed(failure_causes)
    WHEN tags IS NULL THEN unknown('Its tags could not be read'
      || internal.because(failure_causes, ['kms:ListResourceTags']) || '.')
    WHEN primary_tags IS NULL THEN unknown('The tags of its primary ' || coalesce(primary_arn, '') || ' could not be read.')
    WHEN len(different) > 0 THEN fail('These tags differ from those of its primary ' || primary_arn || ': '
      || array_to_string(different, ', ') || '.')
    WHEN len(different) = 0 THEN pass('It has the same tags as its primary ' || primary_arn || '.')
  END AS verdict
FROM candidate
