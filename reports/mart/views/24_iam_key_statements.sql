-- The statements about keys in the IAM policies of accounts, one row each; AWS managed policies are excluded.
--! internal
--: policy_id | The ARN of a managed policy; for an inline policy the ARN of its user, role or group, #inline/ and its name.
--: policy_type | managed or inline.
--: account_id | The account.
--: policy_name | The policy's name.
--: owner_arn | The user, role or group of an inline policy; NULL for a managed policy.
--: statement_index | The index of the statement among the statements about keys, from 0; NULL for a policy without such statements.
--: allow | Whether the statement allows; false: it denies.
--: operations | The operations on keys that the statement covers: kms:Decrypt ...
--: resources | The resources as written.
--: not_resource | Whether the resources come from NotResource: all resources except these.
--: condition_keys | The condition keys it uses.
--: parse_error | Why the statement or policy could not be parsed; NULL if it could.
WITH policy AS (
  SELECT m.policy_arn AS policy_id, 'managed' AS policy_type, m.account_id, m.name, NULL AS owner_arn, m.policy_hash
  FROM internal.iam_managed_policy m
  WHERE internal.known(m.valid_from, m.valid_to, as_of_run) AND m.account_id <> 'aws'
  UNION ALL
  SELECT i.owner_arn || '#inline/' || i.name, 'inline', i.account_id, i.name, i.owner_arn, i.policy_hash
  FROM internal.iam_inline_policy i
  WHERE internal.known(i.valid_from, i.valid_to, as_of_run)
)
SELECT p.policy_id, p.policy_type, p.account_id, p.name AS policy_name, p.owner_arn, s.statement_index, s.allow,
  coalesce(s.operations, CAST([] AS VARCHAR[])) AS operations, coalesce(s.resources, CAST([] AS VARCHAR[])) AS resources,
  s.not_resource, coalesce(s.condition_keys, CAST([] AS VARCHAR[])) AS condition_keys, s.parse_error
FROM policy p
LEFT JOIN internal.identity_statement s ON s.policy_hash = p.policy_hash
