-- Roles with a name, or else whose trust policy names a principal of the account `trusting`. Each with the texts of its policies,
-- NULL if unknown, of its permissions boundary, and the names of the unknown policies.
WITH role AS (
  SELECT arn, account_id, account_name, name, tags, trust_policy AS trust FROM iam_principals
  WHERE type = 'role'
    AND if($name <> '', name = $name, $trusting <> '' AND contains(array_to_string(trusted_principals, ' '), $trusting))
)
SELECT role.*,
  coalesce(list(p.received ORDER BY p.source, p.policy_name) FILTER (p.source <> 'boundary'), []) AS policies,
  coalesce(list(p.received) FILTER (p.source = 'boundary'), []) AS boundary,
  coalesce(list(coalesce(p.policy_name, '') ORDER BY p.source, p.policy_name)
    FILTER (p.source <> 'boundary' AND p.received IS NULL), []) AS unread
FROM role LEFT JOIN iam_policies p ON p.principal_arn = role.arn
GROUP BY ALL ORDER BY account_id, arn
