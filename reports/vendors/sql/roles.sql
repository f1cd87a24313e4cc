-- Roles with a name, or else whose trust policy names a principal of the account `trusting`. Each with its policies: source
-- (inline, attached, boundary), name and text, which is NULL if unknown.
WITH role AS (
  SELECT arn, account_id, account_name, name, tags, trust_policy AS trust FROM iam_principals
  WHERE type = 'role'
    AND if($name <> '', name = $name, $trusting <> '' AND contains(array_to_string(trusted_principals, ' '), $trusting))
)
SELECT role.*, coalesce(list({source: p.source, name: p.policy_name, text: p.received} ORDER BY p.source, p.policy_name)
  FILTER (p.principal_arn IS NOT NULL), []) AS policies
FROM role LEFT JOIN iam_policies p ON p.principal_arn = role.arn
GROUP BY ALL ORDER BY account_id, arn
