-- id: iam-policy-full-kms
-- title: Managed IAM policies do not allow everything on all keys
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
-- console: >-
--   In IAM, Policies (filter: customer managed), open the policy, choose Edit, and name keys in Resource.
-- cli: aws iam create-policy-version --policy-arn POLICY_ARN --policy-document file://policy.json --set-as-default
-- terraform: >-
--   aws_iam_policy: list actions and key ARNs in the statement.
SELECT
  coalesce(policy_id, account_id) AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  CASE allows_everything WHEN true THEN 'fail' WHEN false THEN 'pass' ELSE 'unknown' END AS status,
  everything_reason
    || CASE WHEN policy_id IS NOT NULL AND freshness <> 'current' THEN ' This is the last known policy.' ELSE '' END AS reason
FROM internal.iam_all_keys
WHERE policy_type = 'managed' OR policy_id IS NULL
