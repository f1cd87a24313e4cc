-- id: key-policy-user-principal
-- title: Key policies name roles, not IAM users
-- severity: low
-- family: access
-- why: >-
--   An IAM user has passwords and access keys that live for years. A role gives credentials for hours, and can be
--   used by those who need it without changing the policy; AWS advises roles and federation for people and programs
--   alike.
-- fix: >-
--   A statement names IAM users. Create or choose a role with the same task, name it in the statement, let the users
--   assume it, then take them out. Programs that use access keys of the user need the role's credentials before that.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the users by a role.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): write the ARN of an aws_iam_role as
--   identifier.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT one))[1:3], ', ')
      || CASE WHEN count(DISTINCT one) > 3 THEN ' and ' || (count(DISTINCT one) - 3) || ' more' ELSE '' END AS names
  FROM (
    SELECT key_arn, unnest(list_filter(principals, lambda one: regexp_matches(one,
      '^arn:[a-z-]+:iam::[0-9]{12}:user/'))) AS one
    FROM key_policy_statements
    WHERE effect = 'Allow' AND principal_kind = 'Principal' AND contains(array_to_string(principals, ' '), ':user/')
  ) AS named
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM (
    SELECT key_arn, reason FROM access_paths WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NULL
    UNION ALL
    SELECT key_arn, 'a part of the policy cannot be read' FROM key_policies WHERE NOT readable
  ) AS every
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN f.key_arn IS NULL AND (u.key_arn IS NOT NULL OR NOT k.policy_known) THEN 'unknown'
    WHEN f.key_arn IS NOT NULL THEN 'fail'
    WHEN f.key_arn IS NULL AND u.key_arn IS NULL AND k.policy_known THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.key_arn IS NOT NULL THEN 'The policy allows IAM users: ' || f.names || '.'
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whom the policy names: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known whom the policy names: the policy was not read.'
    ELSE 'The policy allows no IAM user by name.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
