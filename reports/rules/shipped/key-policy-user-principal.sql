-- id: key-policy-user-principal
-- title: Key policies allow roles, not IAM users
-- severity: low
-- family: access
-- why: >-
--   An IAM user has passwords and access keys that live for years. A role issues credentials that last hours and can be
--   assumed by different people without changing the key policy. AWS recommends roles and federation for people and
--   applications alike.
-- fix: >-
--   A statement names IAM users. Create or choose a role for the same task, name it in the statement, let the users
--   assume it, then remove the users. Applications that use access keys of the user must switch to the credentials of
--   the role first.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; replace
--   the users with a role.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), use the ARN of an aws_iam_role as identifier.
WITH violation AS (
  SELECT key_arn, internal.first_names(user_arn) AS names
  FROM (
    SELECT key_arn, unnest(list_filter(principals, lambda user_arn: regexp_matches(user_arn,
      '^arn:[a-z-]+:iam::[0-9]{12}:user/'))) AS user_arn
    FROM key_policy_statements
    WHERE effect = 'Allow' AND principal_kind = 'Principal' AND contains(array_to_string(principals, ' '), ':user/')
  )
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail('The policy allows IAM users: ' || v.names || '.')
    WHEN d.statements_unknown_reason IS NULL THEN pass('The policy allows no IAM user by name.')
    ELSE unknown('Could not determine which principals the policy names: ' || d.statements_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
