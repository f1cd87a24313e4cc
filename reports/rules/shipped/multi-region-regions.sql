-- id: multi-region-regions
-- title: Multi-Region keys exist only in allowed regions
-- severity: medium
-- family: multi-region
-- why: >-
--   A replica brings the key material into its region, and with it the ability to decrypt data from the other regions.
--   If data must not leave a jurisdiction, check the keys too: the data may have stayed while the key was replicated
--   long ago.
-- fix: >-
--   Migrate everything that uses the replica in the disallowed region, then schedule its deletion. To prevent new ones,
--   deny kms:ReplicateKey with a service control policy unless kms:ReplicaRegion is one of the allowed regions. The
--   parameter regions lists the allowed regions; if it is empty, the rule evaluates nothing.
-- console: >-
--   Switch to the disallowed region; in KMS, "Customer managed keys", select the key, "Key actions", "Schedule key
--   deletion".
-- cli: |-
--   aws kms schedule-key-deletion --region REPLICA_REGION --key-id KEY_ID --pending-window-in-days 30
-- terraform: >-
--   Remove the aws_kms_replica_key whose provider uses that region.
-- parameters:
--   regions:
--     default: ""
--     about: >-
--       Comma-separated list of regions in which multi-Region keys are allowed; if empty, the rule evaluates
--       nothing.
WITH candidate AS (
  SELECT *,
    list_sort(list_distinct(CASE WHEN multi_region_type = 'PRIMARY' THEN list_append(
      list_transform(replica_arns, lambda arn: split_part(arn, ':', 4)), region)
      ELSE [region] END)) AS regions,
    list_filter(regions, lambda region_name: region_name NOT IN string_split(replace($regions, ' ', ''), ',')) AS disallowed
  FROM internal.customer_keys
  WHERE trim($regions) <> '' AND ((multi_region IS NULL
    -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
    AND NOT regexp_full_match(key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
    OR multi_region)
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN manager IS NULL OR multi_region IS NULL THEN internal.undescribed(failure_causes)
    WHEN len(disallowed) > 0
      THEN fail('The key is in ' || array_to_string(disallowed, ', ') || ', where multi-Region keys are not allowed.')
    WHEN len(disallowed) = 0 THEN pass('The key is in ' || array_to_string(regions, ', ') || ', where it is allowed.')
  END AS verdict
FROM candidate
