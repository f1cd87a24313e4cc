-- id: key-policy-public
-- title: No key policy allows everyone
-- severity: critical
-- family: access
-- why: >-
--   A statement for everyone without a restricting condition lets any AWS account in the world use the key; the only
--   other control is the IAM of the external account. Anyone who obtains your ciphertext, a shared snapshot or a
--   replicated object can then decrypt it.
-- fix: >-
--   A statement allows "Principal": "*" without a condition that restricts the caller. Name the accounts or roles
--   instead, or add the condition kms:CallerAccount or aws:PrincipalOrgID with your own value. Encryption context,
--   principal tags and aws:ResourceAccount restrict nothing, because the caller chooses them or because they always
--   match your account. Before you restrict the statement, check CloudTrail for callers that rely on it.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the star in Principal, or add the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), specify accounts or roles as identifiers of
--   principals instead of "*".
WITH violation AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'public'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN v.key_arn IS NOT NULL THEN 'fail' WHEN d.everyone_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(v.messages, 'Could not determine whether everyone can use the key: ' || d.everyone_unknown_reason || '.',
    'No statement of the policy allows everyone.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
