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
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'public'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.everyone_unknown_reason IS NULL THEN pass('No statement of the policy allows everyone.')
    ELSE unknown('Could not determine whether everyone can use the key: ' || d.everyone_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
