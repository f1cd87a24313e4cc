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
WITH statement AS (
  SELECT policy_id, account_id, policy_name, owner_arn, allow, operations, condition_keys, broken,
    inverted OR len(list_filter(resources, lambda one: regexp_full_match(one,
      '[*]+|arn:[^:]+:[*]+|arn:[^:]+:(kms|[*]):[*]+|arn:[^:]+:(kms|[*]):[^:]*:[*]+|arn:[^:]+:(kms|[*]):[^:]*:[^:]*:([*]+|k[*]+|key[*]+|key/[*]+)'))) > 0 AS every_key
  FROM iam_key_statements
  WHERE kind = 'inline'
), denied AS (
  -- What the same policy denies on every key without a condition, it does not allow.
  SELECT policy_id, flatten(list(operations)) AS operations
  FROM statement
  WHERE NOT allow AND every_key AND broken IS NULL AND len(condition_keys) = 0
  GROUP BY policy_id
), allowed AS (
  SELECT s.policy_id, s.account_id, any_value(s.policy_name) AS policy_name, any_value(s.owner_arn) AS owner_arn,
    min(s.broken) AS broken,
    list_sort(list_distinct(list_filter(flatten(list(s.operations) FILTER (s.allow AND s.every_key
      AND s.broken IS NULL)),
      lambda one: NOT list_contains(coalesce(any_value(d.operations), CAST([] AS VARCHAR[])), one)))) AS operations,
    list_sort(list_distinct(flatten(list(s.condition_keys) FILTER (s.allow AND s.every_key AND s.broken IS NULL
      AND list_has_any(s.operations, ['kms:Decrypt', 'kms:Encrypt', 'kms:CreateGrant', 'kms:PutKeyPolicy',
        'kms:ScheduleKeyDeletion', 'kms:DisableKey']))))) AS condition_keys
  FROM statement s
  LEFT JOIN denied d ON d.policy_id = s.policy_id
  GROUP BY s.policy_id, s.account_id
), judged AS (
  SELECT *, list_has_all(coalesce(operations, CAST([] AS VARCHAR[])), ['kms:Decrypt', 'kms:Encrypt',
    'kms:CreateGrant', 'kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion', 'kms:DisableKey']) AS wide FROM allowed
)
SELECT j.policy_id AS resource_arn, j.account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN NOT j.wide AND j.broken IS NOT NULL THEN 'unknown'
    WHEN j.wide THEN 'fail'
    WHEN NOT j.wide AND j.broken IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN j.wide THEN 'Policy ' || j.policy_name || coalesce(' of ' || regexp_extract(j.owner_arn, '[^:]*$'), '')
      || ' allows everything on all keys'
      || CASE WHEN len(j.condition_keys) > 0 THEN ', under conditions on ' || array_to_string(j.condition_keys, ', ')
        || ' that are not judged'
        ELSE '' END || '.'
    WHEN j.broken IS NOT NULL THEN 'It is not known what policy ' || j.policy_name || ' allows: ' || j.broken || '.'
    ELSE 'Policy ' || j.policy_name || ' does not allow everything on all keys.'
  END || CASE WHEN i.known IS DISTINCT FROM 'yes' THEN ' This is the last known policy.' ELSE '' END AS reason
FROM judged j
LEFT JOIN iam_accounts i ON i.account_id = j.account_id
UNION ALL
SELECT i.account_id, i.account_id, 'global', NULL, 'unknown',
  'The IAM policies of the account are not known' || coalesce(': ' || i.reason, '') || '.'
FROM iam_accounts i
JOIN accounts a ON a.account_id = i.account_id
WHERE i.known IN ('no', 'in part') AND a.coverage NOT IN ('excluded', 'suspended', 'left')
