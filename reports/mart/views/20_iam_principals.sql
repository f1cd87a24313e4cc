-- The IAM users and roles of accounts; iam_accounts says how complete and current they are.
--: arn | The user or role.
--: account_id | Its account.
--: account_name | The account's name.
--: type | user or role.
--: name | Its name.
--: path | Its path.
--: unique_id | The unique ID, which replaces the ARN in policies after the principal is deleted.
--: created_at | When it was created.
--: permissions_boundary_arn | The managed policy that is its permissions boundary.
--: attached_policies | The ARNs of the managed policies attached directly; those of its groups are in iam_policies.
--: inline_policies | The names of its own inline policies.
--: groups | The names of the groups of a user.
--: tags | Its tags.
--: trusted_principals | The principals that the trust policy of a role allows to assume it, regardless of conditions; NULL for users.
--: trust_policy | The trust policy of a role as canonical JSON.
--: since | When this version of it was first seen.
WITH attached AS (
  SELECT owner_arn, list(policy_arn ORDER BY policy_arn) AS policies
  FROM internal.iam_attachment a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
  GROUP BY owner_arn
), inline AS (
  SELECT owner_arn, list(name ORDER BY name) AS policies
  FROM internal.iam_inline_policy i
  WHERE internal.known(i.valid_from, i.valid_to, as_of_run)
  GROUP BY owner_arn
), membership AS (
  SELECT user_arn, list(group_name ORDER BY group_name) AS groups
  FROM internal.iam_membership m
  WHERE internal.known(m.valid_from, m.valid_to, as_of_run)
  GROUP BY user_arn
), tagged AS (
  SELECT resource_arn, map_from_entries(list((tag_key, tag_value) ORDER BY tag_key)) AS tags
  FROM internal.tag t
  WHERE internal.known(t.valid_from, t.valid_to, as_of_run) AND split_part(resource_arn, ':', 3) = 'iam'
  GROUP BY resource_arn
), trusted AS (
  SELECT n.policy_hash, list(DISTINCT n.principal ORDER BY n.principal) AS principals
  FROM internal.policy_principal n
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
  WHERE s.effect = 'Allow'
  GROUP BY n.policy_hash
)
SELECT p.arn, p.account_id, c.name AS account_name, p.type, p.name, p.path, p.unique_id, p.created_at,
  p.permissions_boundary_arn,
  coalesce(a.policies, CAST([] AS VARCHAR[])) AS attached_policies,
  coalesce(i.policies, CAST([] AS VARCHAR[])) AS inline_policies,
  coalesce(m.groups, CAST([] AS VARCHAR[])) AS groups,
  coalesce(t.tags, CAST(MAP {} AS MAP(VARCHAR, VARCHAR))) AS tags,
  CASE WHEN p.policy_hash IS NOT NULL AND x.readable THEN coalesce(u.principals, CAST([] AS VARCHAR[])) END
    AS trusted_principals,
  d.canonical AS trust_policy, r.started_at AS since
FROM internal.iam_principal p
LEFT JOIN attached a ON a.owner_arn = p.arn
LEFT JOIN inline i ON i.owner_arn = p.arn
LEFT JOIN membership m ON m.user_arn = p.arn
LEFT JOIN tagged t ON t.resource_arn = p.arn
LEFT JOIN trusted u ON u.policy_hash = p.policy_hash
LEFT JOIN internal.policy_document d ON d.policy_hash = p.policy_hash
LEFT JOIN internal.policy x ON x.policy_hash = p.policy_hash
LEFT JOIN internal.account c ON c.account_id = p.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
