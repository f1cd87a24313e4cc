-- id: key-multi-region
-- title: Keys are single-Region unless multi-Region keys are allowed
-- severity: low
-- family: multi-region
-- why: >-
--   A multi-Region key has the same material in several regions: data encrypted in one region can be decrypted in all
--   of them. Regions then no longer isolate incidents, and each copy has its own policy to review. AWS recommends
--   single-Region keys unless data must be decrypted in several regions.
-- fix: >-
--   A key cannot be converted: create a single-Region key, migrate the data to it, delete the replicas and finally the
--   primary. If multi-Region keys are required (global tables, failover, signatures verified in several regions), set
--   the parameter allowed to yes, or waive the key. Keys that a vendor profile requires to be multi-Region do not fail.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Regionality", which lists the primary key and its replicas.
-- cli: |-
--   aws kms create-key --no-multi-region
--   aws kms schedule-key-deletion --region REPLICA_REGION --key-id KEY_ID --pending-window-in-days 30
-- terraform: >-
--   In the aws_kms_key resource, set multi_region = false, which creates another key; remove its aws_kms_replica_key
--   resources.
-- parameters:
--   allowed: {default: "no", about: "Whether multi-Region keys are allowed: no or yes; with yes, the rule evaluates nothing."}
WITH unread_iam_account AS (
  -- If IAM could not be read, a vendor role that requires the key may be missing.
  SELECT DISTINCT account_id FROM coverage
  WHERE outcome = 'gap' AND operation = 'GetAccountAuthorizationDetails' AND cause NOT IN ('disabled_by_config', 'unsupported')
), vendor_key AS MATERIALIZED (
  SELECT key_arn, profiles, unknown_reason, multi_region_for FROM internal.vendor_keys
), candidate AS (
  SELECT k.*, v.multi_region_for AS vendors,
    CASE
      WHEN NOT k.multi_region OR v.multi_region_for IS NOT NULL THEN NULL
      WHEN w.has_requirements AND v.profiles IS NULL AND v.unknown_reason IS NOT NULL THEN 'its policy could not be read'
      WHEN u.account_id IS NOT NULL THEN 'IAM of its account could not be read'
    END AS unknown_reason
  FROM internal.customer_keys k
  CROSS JOIN (SELECT count(multi_region_for) > 0 AS has_requirements FROM vendor_key) w
  LEFT JOIN vendor_key v ON v.key_arn = k.key_arn
  LEFT JOIN unread_iam_account u ON u.account_id = k.account_id
  WHERE lower($allowed) <> 'yes'
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN multi_region AND vendors IS NOT NULL
      THEN not_applicable('The vendor profile ' || vendors || ' requires a multi-Region key.')
    WHEN manager IS NULL OR multi_region IS NULL THEN internal.undescribed(failure_causes)
    WHEN unknown_reason IS NOT NULL
      THEN unknown('Could not determine whether a vendor requires this multi-Region key: ' || unknown_reason || '.')
    WHEN NOT multi_region THEN pass('The key is a single-Region key.')
    WHEN multi_region_type = 'REPLICA' THEN fail('The key is a replica' || coalesce(' of ' || primary_arn, '') || '.')
    WHEN len(replica_arns) > 0 THEN fail('The key is a multi-Region key with replicas in ' || array_to_string(
      list_sort(list_transform(replica_arns, lambda arn: split_part(arn, ':', 4))), ', ') || '.')
    WHEN multi_region THEN fail('The key is a multi-Region key without replicas.')
  END AS verdict
FROM candidate
