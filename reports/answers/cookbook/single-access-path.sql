-- title: Where closing one way closes the door
-- topic: access
-- question: >-
--   On which keys does a principal have only one way in?
-- answer: >-
--   Ways of outside parties, other accounts and roles beside which no other leads the same principal to the key:
--   removing that statement or grant ends the access, so it is both the simplest fix and the simplest accident.
-- parameters:
--   principal: {default: "", about: "only this principal, party or account id; empty for all"}
SELECT p.access, p.principal, p.party, k.account_name, k.region, k.alias, p.path, p.source_id, k.dependent_resources, k.key_arn
FROM internal.access_paths p
JOIN keys k ON k.key_arn = p.key_arn
WHERE p.access IN ('owner_direct', 'organization', 'vendor', 'external') AND p.principal <> '*' AND len(p.alternative_paths) = 0
  AND ($principal = '' OR p.principal = $principal OR p.party = $principal OR p.principal_account = $principal)
ORDER BY k.dependent_resources DESC, p.principal, k.key_arn, p.source_id
