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
WITH untold AS (
  SELECT key_arn, bool_or(analysis_id IS NULL) AS unread, min(reason) AS reason,
    min(CASE WHEN analysis_id IS NOT NULL AND via <> 'policy' THEN 'Statement ' || via || ': ' || reason
      ELSE 'The policy: ' || reason END) AS text
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN u.unread OR NOT k.policy_known THEN 'unknown'
    WHEN u.key_arn IS NOT NULL THEN 'fail'
    WHEN k.policy_known AND u.key_arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.unread THEN 'It is not known what the policy says: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known what the policy says: it was not read.'
    WHEN u.key_arn IS NOT NULL THEN u.text || '.'
    ELSE 'All of the policy could be judged.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
