-- title: Keys that external parties can use
-- topic: access
-- question: >-
--   Which keys can external parties use, and how many resources depend on these keys?
-- answer: >-
--   One row per key and external party: vendors (known parties), unknown accounts (external) and everyone (public).
--   resources counts the known dependents of the key; types lists what the party could decrypt if it also obtained
--   the data.
WITH outside AS (
  SELECT p.key_arn, p.access, coalesce(p.party, p.principal_account, p.principal) AS party,
    list_sort(list_distinct(list(p.source_id))) AS access_paths, min(p.since_run) AS since_run
  FROM internal.access_paths p
  WHERE internal.from_outside(p.access)
  GROUP BY p.key_arn, p.access, coalesce(p.party, p.principal_account, p.principal)
), used AS (
  SELECT key_arn, count(DISTINCT resource_arn) AS resources, list_sort(list_distinct(list(resource_type))) AS types
  FROM resource_keys
  WHERE key_arn IN (SELECT key_arn FROM outside)
  GROUP BY key_arn
)
SELECT o.access, o.party, k.account_name, k.region, k.alias, k.state, coalesce(u.resources, 0) AS resources, u.types,
  o.access_paths, r.started_at AS since, k.key_arn
FROM outside o
JOIN keys k ON k.key_arn = o.key_arn
LEFT JOIN used u ON u.key_arn = o.key_arn
LEFT JOIN runs r ON r.run_id = o.since_run
ORDER BY resources DESC, o.access, o.party, k.key_arn
