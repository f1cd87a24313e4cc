-- id: iam-inline-policy-full-kms
-- title: Inline IAM policies do not allow all actions on all keys
-- severity: high
-- family: access
-- why: >-
--   Full access to every key combines use and administration: reading the data, granting access to others, changing key
--   policies and deleting keys, for every key whose policy delegates the decision to IAM. Data under a deleted key is
--   lost permanently.
-- fix: >-
--   The policy allows all relevant actions on all keys (kms:*, *, or NotAction that does not exclude them). Give
--   administrators the administrative actions, give applications the use of individual keys, and give no principal
--   both. For policies of legitimate administrators, waive the finding, and deny kms:ScheduleKeyDeletion and
--   kms:DisableKey to all but a few principals with a service control policy.
-- console: >-
--   In IAM, open the user, role or group, tab "Permissions", open the policy, choose "Edit", and list key ARNs in
--   Resource.
-- cli: >-
--   aws iam put-role-policy --role-name ROLE --policy-name POLICY --policy-document file://policy.json
--   (put-user-policy, put-group-policy)
-- terraform: >-
--   In aws_iam_role_policy, aws_iam_user_policy or aws_iam_group_policy, list actions and key ARNs in the statement.
SELECT coalesce(policy_id, account_id) AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  verdict_of(NOT allows_everything, everything_reason) AS verdict,
  CASE WHEN policy_id IS NOT NULL AND freshness <> 'current' THEN ' This is the last known policy.' END AS note
FROM internal.iam_all_keys
WHERE policy_type = 'inline' OR policy_id IS NULL
