-- The policies that apply to IAM users and roles, without their texts; see iam_policies.
--! internal
--: principal_arn | The user or role.
--: account_id | Its account.
--: source | inline, attached or boundary.
--: group_arn | The group through which the policy applies; NULL if it belongs to the principal itself.
--: policy_arn | The managed policy; NULL for an inline policy.
--: policy_name | The name of the policy.
--: default_version | The default version of a managed policy.
--: policy_hash | The policy; NULL if unknown.
WITH owner AS (
  SELECT arn AS principal_arn, account_id, arn AS owner_arn, NULL AS group_arn
  FROM internal.iam_principal p
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
  UNION ALL
  SELECT m.user_arn, m.account_id, g.arn, g.arn
  FROM internal.iam_membership m
  JOIN internal.iam_group g ON g.account_id = m.account_id AND g.name = m.group_name
    AND internal.known(g.valid_from, g.valid_to, as_of_run)
  WHERE internal.known(m.valid_from, m.valid_to, as_of_run)
), managed AS (
  SELECT o.principal_arn, o.account_id, 'attached' AS source, o.group_arn, a.policy_arn
  FROM owner o
  JOIN internal.iam_attachment a ON a.owner_arn = o.owner_arn AND internal.known(a.valid_from, a.valid_to, as_of_run)
  UNION ALL
  SELECT p.arn, p.account_id, 'boundary', NULL, p.permissions_boundary_arn
  FROM internal.iam_principal p
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run) AND p.permissions_boundary_arn IS NOT NULL
)
SELECT m.principal_arn, m.account_id, m.source, m.group_arn, m.policy_arn,
  coalesce(v.name, regexp_extract(m.policy_arn, '[^/]*$')) AS policy_name, v.default_version, v.policy_hash
FROM managed m
LEFT JOIN internal.iam_managed_policy v ON v.policy_arn = m.policy_arn
  AND internal.known(v.valid_from, v.valid_to, as_of_run)
UNION ALL
SELECT o.principal_arn, o.account_id, 'inline', o.group_arn, NULL, i.name, NULL, i.policy_hash
FROM owner o
JOIN internal.iam_inline_policy i ON i.owner_arn = o.owner_arn AND internal.known(i.valid_from, i.valid_to, as_of_run)
