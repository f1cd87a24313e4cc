-- The policies that decide what IAM users and roles may do: their own, those of their groups, and their boundaries.
--: principal_arn | The user or role.
--: account_id | Its account.
--: source | inline, attached, or boundary: a boundary allows nothing, it bounds what the others allow.
--: group_arn | The group by which the policy applies; empty when it is the principal's own.
--: policy_arn | The managed policy; empty for an inline one.
--: policy_name | The policy's name.
--: default_version | The version of a managed policy that is in force.
--: policy | The policy as canonical JSON; empty when it is not known.
--: received | The policy as it was written when it was first seen.
--: readable | Whether every part of it could be read; empty when it is not known.
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
), every AS (
  SELECT m.principal_arn, m.account_id, m.source, m.group_arn, m.policy_arn,
    coalesce(v.name, regexp_extract(m.policy_arn, '[^/]*$')) AS policy_name, v.default_version, v.policy_hash
  FROM managed m
  LEFT JOIN internal.iam_managed_policy v ON v.policy_arn = m.policy_arn
    AND internal.known(v.valid_from, v.valid_to, as_of_run)
  UNION ALL
  SELECT o.principal_arn, o.account_id, 'inline', o.group_arn, NULL, i.name, NULL, i.policy_hash
  FROM owner o
  JOIN internal.iam_inline_policy i ON i.owner_arn = o.owner_arn AND internal.known(i.valid_from, i.valid_to, as_of_run)
)
SELECT e.principal_arn, e.account_id, e.source, e.group_arn, e.policy_arn, e.policy_name, e.default_version,
  d.canonical AS policy, d.received, x.readable
FROM every e
LEFT JOIN internal.policy_document d ON d.policy_hash = e.policy_hash
LEFT JOIN internal.policy x ON x.policy_hash = e.policy_hash
