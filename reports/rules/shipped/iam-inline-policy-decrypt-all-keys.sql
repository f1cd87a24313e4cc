-- id: iam-inline-policy-decrypt-all-keys
-- title: Inline IAM policies do not allow decryption with all keys
-- severity: medium
-- family: access
-- why: >-
--   Most key policies delegate the decision to IAM. A policy that allows Decrypt or ReEncryptFrom on every key then
--   opens all of these keys, including keys of other teams and keys created later; a single stolen role can read
--   everything.
-- fix: >-
--   The policy allows kms:Decrypt or kms:ReEncryptFrom with a Resource that matches all keys (*, or key/* of an account
--   or region) or with NotResource. List the required keys by ARN. Conditions such as kms:ViaService or
--   kms:ResourceAliases restrict the permission but are not evaluated, the same as in Security Hub; waive the finding
--   if they are sufficient. AWS managed policies are not evaluated.
-- console: >-
--   In IAM, open the user, role or group, tab "Permissions", open the policy, choose "Edit", and list key ARNs in
--   Resource.
-- cli: >-
--   aws iam put-role-policy --role-name ROLE --policy-name POLICY --policy-document file://policy.json
--   (put-user-policy, put-group-policy)
-- terraform: >-
--   In aws_iam_role_policy, aws_iam_user_policy or aws_iam_group_policy, list key ARNs in resources of the statement
--   with kms:Decrypt.
SELECT coalesce(policy_id, account_id) AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  verdict_of(NOT allows_decryption, decryption_reason) AS verdict,
  CASE WHEN policy_id IS NOT NULL AND freshness <> 'current' THEN ' This is the last known policy.' END AS note
FROM internal.iam_all_keys
WHERE policy_type = 'inline' OR policy_id IS NULL
