-- title: Vendors by accessible keys
-- topic: access
-- question: >-
--   Which external party could decrypt the most data?
-- answer: >-
--   External parties by the number of resources whose keys they can decrypt with; accounts counts the accounts of
--   the organization that own these keys.
WITH accessible AS (
  SELECT DISTINCT coalesce(p.party, p.principal_account, p.principal) AS party, p.access, p.key_arn
  FROM internal.access_paths p
  JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
  WHERE p.access IN ('vendor', 'external') AND list_contains(v.operations, 'kms:Decrypt')
)
SELECT r.party, r.access, count(DISTINCT r.key_arn) AS keys, count(DISTINCT k.account_id) AS accounts,
  count(DISTINCT u.resource_arn) AS resources, list_sort(list_distinct(list(u.resource_type))) AS types
FROM accessible r
JOIN keys k ON k.key_arn = r.key_arn
LEFT JOIN resource_keys u ON u.key_arn = r.key_arn
GROUP BY r.party, r.access
ORDER BY resources DESC, keys DESC, r.party
