-- id: multi-region-regions
-- title: Multi-Region keys exist in allowed regions only
-- severity: medium
-- family: multi-region
-- why: >-
--   A replica carries the material of the key into its region, and with it the power to decrypt whatever the other
--   regions hold. Where data must not leave a jurisdiction, that is the place to look: the data may stay, while the
--   key has long moved.
-- fix: >-
--   Move what uses the replica in the region that is not allowed, then schedule its deletion. To prevent the next
--   one, deny kms:ReplicateKey unless kms:ReplicaRegion is one of the allowed regions, in a service control policy.
--   Set the parameter regions to the regions that are allowed; without it the rule judges nothing.
-- console: >-
--   Change to the region that is not allowed; in KMS, "Customer managed keys", select the key, "Key actions",
--   "Schedule key deletion".
-- cli: |-
--   aws kms schedule-key-deletion --region REPLICA_REGION --key-id KEY_ID --pending-window-in-days 30
-- terraform: >-
--   Remove the aws_kms_replica_key whose provider is of that region.
-- parameters:
--   regions:
--     default: ""
--     about: >-
--       The regions in which copies of multi-Region keys may be, separated by commas; empty: the rule judges
--       nothing.
WITH considered AS (
  SELECT *,
    string_split(replace($regions, ' ', ''), ',') AS allowed,
    list_sort(list_distinct(CASE WHEN multi_region_type = 'PRIMARY' THEN list_append(
      list_transform(replica_arns, lambda arn: split_part(arn, ':', 4)), region)
      ELSE [region] END)) AS regions
  FROM internal.customer_keys
  WHERE trim($regions) <> '' AND ((multi_region IS NULL
    -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
    AND NOT regexp_full_match(key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
    OR multi_region)
), evaluated AS (
  SELECT *, list_filter(regions, lambda one: NOT list_contains(allowed, one)) AS outside FROM considered
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager IS NULL OR multi_region IS NULL THEN 'unknown'
    WHEN len(outside) > 0 THEN 'fail'
    WHEN len(outside) = 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN manager IS NULL OR multi_region IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN len(outside) > 0 THEN 'The key is in ' || array_to_string(outside, ', ')
      || ', where multi-Region keys are not allowed.'
    ELSE 'The key is in ' || array_to_string(regions, ', ') || ', where it may be.'
  END || stale_note AS reason
FROM evaluated
