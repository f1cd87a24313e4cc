-- title: Principals with a single access path
-- topic: access
-- question: >-
--   On which keys does a principal have only one access path?
-- answer: >-
--   Access paths of external parties, other accounts and roles without an alternative path of the same principal to
--   the key: removing the statement or grant ends the access. This is the simplest fix, and the simplest mistake.
-- parameters:
--   principal: {default: "", description: "limit to this principal, party or account ID; empty for all"}
SELECT p.access, p.principal, p.party, k.account_name, k.region, k.alias, p.path, p.source_id, k.dependent_resources, k.key_arn
FROM internal.access_paths p
JOIN keys k ON k.key_arn = p.key_arn
WHERE p.access IN ('owner_direct', 'organization', 'vendor', 'external') AND p.principal <> '*' AND len(p.alternative_paths) = 0
  AND ($principal = '' OR p.principal = $principal OR p.party = $principal OR p.principal_account = $principal)
ORDER BY k.dependent_resources DESC, p.principal, k.key_arn, p.source_id
