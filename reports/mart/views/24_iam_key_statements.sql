-- What IAM policies of accounts say about keys: one row for each statement of a policy that is about keys; the policies that AWS keeps are left out.
--! internal
--: policy_id | The managed policy's ARN; for an inline policy the ARN of its user, role or group, #inline/ and its name.
--: policy_type | managed or inline.
--: account_id | The account.
--: policy_name | The policy's name.
--: owner_arn | The user, role or group whose part an inline policy is; empty for a managed one.
--: statement_index | The statement's place among those that are about keys, from 0; empty for a policy that says nothing of keys.
--: allow | Whether the statement allows; else it denies.
--: operations | The operations on keys that it is about: kms:Decrypt ...
--: resources | The resources as written.
--: not_resource | Whether they are those of NotResource: all but them.
--: condition_keys | The condition keys that it tests.
--: parse_error | Why the statement or the policy cannot be read; empty when it can.
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
