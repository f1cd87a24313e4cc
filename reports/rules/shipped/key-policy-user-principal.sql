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
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce('The policy allows IAM users: ' || f.names || '.',
    'It is not known whom the policy names: ' || d.statements_unknown_reason || '.',
    'The policy allows no IAM user by name.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
