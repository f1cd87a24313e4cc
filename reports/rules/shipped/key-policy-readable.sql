-- id: key-policy-readable
-- title: Key policies can be judged
-- severity: medium
-- family: access
-- why: >-
--   What cannot be judged cannot be called safe: a statement in a form that IAM does not know, or a condition whose
--   effect depends on what only AWS knows, leaves open who can use the key. Other rules answer unknown for such a
--   key.
-- fix: >-
--   See the reason for the statement. Write it in the usual form, or with condition keys whose values can be
--   compared. An action that is named as not known is misspelt, or newer than this program: update it. A federated
--   principal without an account can be replaced by the role that it assumes.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   rewrite the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): write policies with
--   aws_iam_policy_document, which knows the form.
WITH unevaluated_reason AS (
  SELECT key_arn, min(CASE WHEN source_id <> 'policy' THEN 'Statement ' || source_id ELSE 'The policy' END || ': ' || reason) AS text
  FROM internal.access_paths
  WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NOT NULL
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE
    WHEN d.policy_unknown_reason IS NOT NULL THEN 'unknown'
    WHEN u.key_arn IS NOT NULL THEN 'fail'
    WHEN u.key_arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  coalesce('It is not known what the policy says: ' || d.policy_unknown_reason || '.', u.text || '.',
    'All of the policy could be judged.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN unevaluated_reason u ON u.key_arn = d.key_arn
