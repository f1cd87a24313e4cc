-- id: multi-region-policy-differs
-- title: Replicas have the same policy as their primary
-- severity: medium
-- family: multi-region
-- why: >-
--   The copies of a multi-Region key share their material but not their policies. The most permissive policy decides
--   who can decrypt data encrypted in any of the regions, and a replica is easily forgotten when the policy of the
--   primary is restricted.
-- fix: >-
--   Compare the two policies and apply the policy of the primary to the replica. A region name in the policy is not a
--   difference if each copy names its own region. If the policy of a region is intentionally stricter, waive the
--   replica.
-- console: >-
--   In KMS, "Customer managed keys", open the replica, tab "Key policy", choose "Edit" and paste the policy of the
--   primary.
-- cli: |-
--   aws kms get-key-policy --region PRIMARY_REGION --key-id KEY_ID --query Policy --output text > policy.json
--   aws kms put-key-policy --region REPLICA_REGION --key-id KEY_ID --policy-name default --policy file://policy.json
-- terraform: >-
--   Give aws_kms_key and aws_kms_replica_key the same policy, as one aws_iam_policy_document.
WITH candidate AS (
  SELECT * FROM internal.customer_keys
  -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
  WHERE multi_region_type = 'REPLICA' OR (multi_region IS NULL
    AND NOT regexp_full_match(key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
), policy AS (
  -- Policies that differ only in the region of each copy count as equal.
  SELECT p.key_arn, md5(replace(p.policy, p.region, '*')) AS text
  FROM key_policies p
  WHERE p.key_arn IN (SELECT key_arn FROM candidate UNION ALL SELECT primary_arn FROM candidate)
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn, k.stale_note AS note,
  CASE
    WHEN k.manager IS NULL OR k.multi_region IS NULL THEN internal.undescribed(k.failure_causes)
    WHEN replica_policy.text IS NULL THEN unknown('Its policy could not be read'
      || internal.because(k.failure_causes, ['kms:GetKeyPolicy']) || '.')
    WHEN primary_policy.text IS NULL
      THEN unknown('The policy of its primary ' || coalesce(k.primary_arn, '') || ' could not be read.')
    WHEN replica_policy.text <> primary_policy.text
      THEN fail('Its policy differs from that of its primary ' || k.primary_arn || '.')
    WHEN replica_policy.text = primary_policy.text
      THEN pass('Its policy is the same as that of its primary ' || k.primary_arn || '.')
  END AS verdict
FROM candidate k
LEFT JOIN policy replica_policy ON replica_policy.key_arn = k.key_arn
LEFT JOIN policy primary_policy ON primary_policy.key_arn = k.primary_arn
