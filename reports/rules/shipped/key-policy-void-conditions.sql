-- id: key-policy-void-conditions
-- title: Conditions of key policies are effective
-- severity: medium
-- family: access
-- why: >-
--   An operator with ...IfExists or ForAllValues also matches if the request does not contain the condition key,
--   StringEquals takes wildcards literally, and policy variables in a policy without Version 2012-10-17 are plain text.
--   The statement looks restricted but is open, or looks open but allows nobody.
-- fix: >-
--   Use the plain operator (StringEquals instead of StringEqualsIfExists, no ForAllValues in an Allow), or add a Null
--   condition that requires the condition key. For values with wildcards, use StringLike or ArnLike. For
--   policy variables, set "Version": "2012-10-17". Each change can lock out callers that relied on the gap; check
--   CloudTrail for them.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; correct
--   the operator or the Version.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), use test = "StringEquals";
--   aws_iam_policy_document sets Version 2012-10-17 automatically.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM key_policy_problems
  WHERE code IN ('if_exists_scopes_nothing', 'variables_not_resolved', 'literal_wildcard')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.statements_unknown_reason IS NULL THEN pass('All conditions of the policy are effective.')
    ELSE unknown('Could not determine whether its conditions are effective: ' || d.statements_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
