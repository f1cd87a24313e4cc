-- id: key-policy-void-conditions
-- title: Conditions of key policies narrow what they seem to narrow
-- severity: medium
-- family: access
-- why: >-
--   A test with ...IfExists or ForAllValues also holds when the request does not carry the key at all, and policy
--   variables in a policy without Version 2012-10-17 are plain text. The statement looks narrow and is open, or looks
--   open and lets nobody in.
-- fix: >-
--   Use the plain operator (StringEquals in place of StringEqualsIfExists, no ForAllValues in an Allow), or add a
--   Null test that demands the key. For variables set "Version": "2012-10-17". Either change can lock out callers
--   that got in by the gap: look in CloudTrail who that is.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   correct the operator or the Version.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): use test = "StringEquals";
--   aws_iam_policy_document writes Version 2012-10-17 by itself.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code IN ('if_exists_scopes_nothing', 'variables_not_resolved')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether its conditions narrow anything: ' || d.statements_unknown_reason || '.',
    'No condition of the policy is without effect.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
