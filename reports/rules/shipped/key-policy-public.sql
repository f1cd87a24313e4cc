-- id: key-policy-public
-- title: No key policy lets everyone in
-- severity: critical
-- family: access
-- why: >-
--   A statement for everyone that nothing narrows lets any AWS account in the world use the key: the outsider's own
--   IAM is the only other gate. Whoever gets hold of a copy of your ciphertext, a shared snapshot or a replicated
--   object can then decrypt it.
-- fix: >-
--   A statement allows "Principal": "*" without a condition that names who may call. Name the accounts or roles
--   instead, or add the condition kms:CallerAccount or aws:PrincipalOrgID with your own value. Encryption context,
--   tags of the caller and aws:ResourceAccount narrow nothing, since callers choose them or they are always yours.
--   Look in CloudTrail for who relies on it before you close it.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the star in Principal, or add the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): name accounts or roles as identifiers of
--   principals in place of "*".
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'public'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.everyone_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether everyone can use the key: ' || d.everyone_unknown_reason || '.',
    'No statement of the policy lets everyone in.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
