-- id: iam-inline-policy-full-kms
-- title: Inline IAM policies do not allow everything on all keys
-- severity: high
-- family: access
-- why: >-
--   Everything on every key is use and administration in one: reading the data, passing the key on, changing its
--   policy and deleting it, wherever the key policy leaves the decision to IAM. Deleted keys take their data along
--   for good.
-- fix: >-
--   The policy allows all that matters on all keys (kms:*, a bare star, or NotAction that leaves it in). Give
--   administrators the administrative actions, applications the use of single keys, and nobody both. For policies of
--   real administrators, waive the finding, with kms:ScheduleKeyDeletion and kms:DisableKey denied by a service
--   control policy to all but a few.
-- console: In IAM, the user, role or group, tab Permissions, open the policy, choose Edit, and name keys in Resource.
-- cli: >-
--   aws iam put-role-policy --role-name ROLE --policy-name POLICY --policy-document file://policy.json
--   (put-user-policy, put-group-policy)
-- terraform: >-
--   aws_iam_role_policy, aws_iam_user_policy or aws_iam_group_policy: list actions and key ARNs in the statement.
SELECT
  coalesce(policy_id, account_id) AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  CASE allows_everything WHEN true THEN 'fail' WHEN false THEN 'pass' ELSE 'unknown' END AS status,
  everything_reason
    || CASE WHEN policy_id IS NOT NULL AND freshness <> 'current' THEN ' This is the last known policy.' ELSE '' END AS reason
FROM internal.iam_all_keys
WHERE policy_type = 'inline' OR policy_id IS NULL
