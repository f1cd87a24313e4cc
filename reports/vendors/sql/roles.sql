-- Roles with a name, or else whose trust policy names a principal of the account `trusting`; in `accounts`, or all. Each with its
-- policies: source (inline, attached, boundary), name and text, which is NULL if unknown.
SELECT arn, account_id, account_name, name, tags, trust_policy AS trust, coalesce((
    SELECT list({source: p.source, name: p.policy_name, text: p.received} ORDER BY p.source, p.policy_name)
    FROM iam_policies p WHERE p.principal_arn = arn), []) AS policies
FROM iam_principals
WHERE type = 'role' AND (len($accounts) = 0 OR list_contains($accounts, account_id))
  AND if($name <> '', name = $name, $trusting <> '' AND contains(array_to_string(trusted_principals, ' '), $trusting))
ORDER BY account_id, arn
