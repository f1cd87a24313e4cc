-- id: key-multi-region
-- title: Keys stay in one region unless more are allowed
-- severity: low
-- family: multi-region
-- why: >-
--   A multi-Region key has the same material in several regions: what is encrypted in one can be decrypted in every
--   other, so that the regions no longer contain an incident, and each copy has a policy of its own to watch. AWS
--   advises single-Region keys unless data really has to be decrypted elsewhere.
-- fix: >-
--   Neither kind can be changed into the other: create a single-Region key, move the data to it, then delete the
--   replicas and at last the primary. Where multi-Region keys are wanted (global tables, failover, signatures that
--   are verified everywhere), set the parameter allowed to yes, or waive the key. One that a vendor profile
--   requires is left alone.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Regionality", which lists the primary and its replicas.
-- cli: |-
--   aws kms create-key --no-multi-region
--   aws kms schedule-key-deletion --region REPLICA_REGION --key-id KEY_ID --pending-window-in-days 30
-- terraform: >-
--   In the resource aws_kms_key set multi_region = false, which creates another key; remove its aws_kms_replica_key
--   resources.
-- parameters:
--   allowed: {default: "no", about: "Whether multi-Region keys are allowed: no, or yes; with yes nothing is judged."}
WITH unread AS (
  -- Where IAM was refused, a vendor's role that names the key may not be known.
  SELECT DISTINCT account_id FROM coverage
  WHERE outcome = 'gap' AND operation = 'GetAccountAuthorizationDetails' AND cause NOT IN ('disabled_by_config', 'unsupported')
), considered AS (
  SELECT k.*, v.multi_region_for AS vendors,
    CASE
      WHEN NOT k.multi_region OR v.multi_region_for IS NOT NULL THEN NULL
      WHEN w.asked AND v.profiles IS NULL AND v.unknown_reason IS NOT NULL THEN 'its policy could not be read'
      WHEN u.account_id IS NOT NULL THEN 'IAM of its account could not be read'
    END AS unknown_reason
  FROM internal.customer_keys k
  CROSS JOIN (SELECT count(multi_region_for) > 0 AS asked FROM internal.vendor_keys) w
  LEFT JOIN internal.vendor_keys v ON v.key_arn = k.key_arn
  LEFT JOIN unread u ON u.account_id = k.account_id
  WHERE lower($allowed) <> 'yes'
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN multi_region AND vendors IS NOT NULL THEN 'not_applicable'
    WHEN manager IS NULL OR multi_region IS NULL OR unknown_reason IS NOT NULL THEN 'unknown'
    WHEN multi_region THEN 'fail'
    WHEN NOT multi_region THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN multi_region AND vendors IS NOT NULL THEN 'The vendor profile ' || vendors || ' requires a multi-Region key.'
    WHEN manager IS NULL OR multi_region IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN unknown_reason IS NOT NULL THEN 'Could not determine whether a vendor requires this multi-Region key: ' || unknown_reason || '.'
    WHEN multi_region_type = 'REPLICA' THEN 'The key is a replica' || coalesce(' of ' || primary_arn, '') || '.'
    WHEN multi_region THEN 'The key is a multi-Region key'
      || CASE WHEN len(replica_arns) > 0 THEN ' with replicas in ' || array_to_string(
        list_sort(list_transform(replica_arns, lambda arn: split_part(arn, ':', 4))), ', ')
        ELSE ' without replicas' END || '.'
    ELSE 'The key is of one region only.'
  END || stale_note AS reason
FROM considered
