-- id: multi-region-policy-differs
-- title: Replicas have the policy of their primary
-- severity: medium
-- family: multi-region
-- why: >-
--   Material is shared between the copies of a multi-Region key, policies are not. The weakest of the policies
--   decides who can decrypt what was encrypted in any of the regions, and a replica is easily forgotten when the
--   primary's policy is tightened.
-- fix: >-
--   Compare the two policies and bring the replica to the primary's. A region that is named in the policy is not a
--   difference when each copy names its own. Where a region is meant to be stricter, waive the replica.
-- console: >-
--   In KMS, "Customer managed keys", open the replica, tab "Key policy", choose "Edit" and put in the primary's
--   policy.
-- cli: |-
--   aws kms get-key-policy --region PRIMARY_REGION --key-id KEY_ID --query Policy --output text > policy.json
--   aws kms put-key-policy --region REPLICA_REGION --key-id KEY_ID --policy-name default --policy file://policy.json
-- terraform: >-
--   Give aws_kms_key and aws_kms_replica_key the same policy, as one aws_iam_policy_document.
WITH considered AS (
  SELECT * FROM internal.customer_keys
  -- The ID of a multi-Region key is not a UUID, so a key with a UUID is excluded even if it could not be described.
  WHERE multi_region_type = 'REPLICA' OR (multi_region IS NULL
    AND NOT regexp_full_match(key_id, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
), policy AS (
  -- What differs only in that each copy names its own region does not differ.
  SELECT p.key_arn, md5(replace(p.policy, p.region, '*')) AS text
  FROM key_policies p
  WHERE p.key_arn IN (SELECT key_arn FROM considered UNION ALL SELECT primary_arn FROM considered)
)
SELECT
  k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN k.manager IS NULL OR k.multi_region IS NULL OR own.text IS NULL OR theirs.text IS NULL THEN 'unknown'
    WHEN own.text <> theirs.text THEN 'fail'
    WHEN own.text = theirs.text THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN k.manager IS NULL OR k.multi_region IS NULL THEN 'The key could not be described' || k.denied_note || '.'
    WHEN own.text IS NULL THEN 'Its policy could not be read' || k.denied_note || '.'
    WHEN theirs.text IS NULL THEN 'The policy of its primary ' || coalesce(k.primary_arn, '') || ' is not known.'
    WHEN own.text <> theirs.text THEN 'Its policy differs from that of its primary ' || k.primary_arn || '.'
    ELSE 'Its policy is that of its primary ' || k.primary_arn || '.'
  END || k.stale_note AS reason
FROM considered k
LEFT JOIN policy own ON own.key_arn = k.key_arn
LEFT JOIN policy theirs ON theirs.key_arn = k.primary_arn
