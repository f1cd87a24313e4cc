-- id: key-policy-readable
-- title: Key policies can be evaluated
-- severity: medium
-- family: access
-- why: >-
--   A policy that cannot be evaluated cannot be considered safe. A statement in a form that IAM does not define, or a
--   condition whose effect depends on data that only AWS has, leaves open who can use the key. Other rules return
--   unknown for such a key.
-- fix: >-
--   The reason names the statement. Write it in the usual form, or with condition keys whose values can be compared. An
--   unknown action is misspelled, or newer than this version of kmsledger: update it. Replace a federated principal
--   without an account with the role that it assumes.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   rewrite the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), write the policy with aws_iam_policy_document,
--   which validates its form.
WITH unevaluated AS (
  SELECT key_arn, min(CASE WHEN source_id <> 'policy'
    THEN 'Statement ' || source_id ELSE 'The policy' END || ': ' || reason) AS text
  FROM internal.access_paths
  WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NOT NULL
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN d.policy_unknown_reason IS NOT NULL THEN unknown('Could not evaluate the policy: ' || d.policy_unknown_reason || '.')
    WHEN u.key_arn IS NOT NULL THEN fail(u.text || '.')
    WHEN u.key_arn IS NULL THEN pass('The whole policy could be evaluated.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN unevaluated u ON u.key_arn = d.key_arn
