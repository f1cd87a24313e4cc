-- The resource policies that are crawled: those of secrets.
--: resource_arn | The resource.
--: resource_type | CloudFormation's type name.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: freshness | current; stale: the run could not read it again; or none: it was never read.
--: reason | Why it is not current, in words.
--: has_policy | Whether it has a policy; NULL if unknown.
--: policy | The policy as canonical JSON.
--: received | The policy as received when it was first seen.
--: principals | The principals in statements that allow something, regardless of conditions.
--: readable | Whether every part of it could be parsed.
--: since | When this policy, or the absence of a policy, was first seen.
WITH confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial')
), denied AS (
  SELECT g.subject, min(coalesce(z.text, g.cause)) AS reason
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND g.subject <> '' AND g.operation = 'GetResourcePolicy'
  GROUP BY g.subject
), allowed AS (
  SELECT n.policy_hash, list(DISTINCT n.principal ORDER BY n.principal) AS principals
  FROM internal.policy_principal n
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
  WHERE s.effect = 'Allow'
  GROUP BY n.policy_hash
)
SELECT s.resource_arn, s.resource_type, s.account_id, s.region, s.name,
  CASE
    WHEN p.resource_arn IS NULL THEN 'none'
    WHEN g.subject IS NOT NULL OR f.account_id IS NULL THEN 'stale'
    ELSE 'current'
  END AS freshness,
  CASE WHEN g.subject IS NOT NULL THEN g.reason WHEN f.account_id IS NULL THEN 'its region was not read in this run' END
    AS reason,
  CASE WHEN p.resource_arn IS NOT NULL THEN p.policy_hash IS NOT NULL END AS has_policy,
  d.canonical AS policy, d.received,
  CASE WHEN x.readable THEN coalesce(a.principals, CAST([] AS VARCHAR[])) END AS principals,
  x.readable, r.started_at AS since
FROM internal.resource s
LEFT JOIN internal.resource_policy p ON p.resource_arn = s.resource_arn
  AND internal.known(p.valid_from, p.valid_to, as_of_run)
LEFT JOIN denied g ON g.subject = s.resource_arn
LEFT JOIN confirmed f ON f.account_id = s.account_id AND f.region = s.listing_region
LEFT JOIN internal.policy_document d ON d.policy_hash = p.policy_hash
LEFT JOIN internal.policy x ON x.policy_hash = p.policy_hash
LEFT JOIN allowed a ON a.policy_hash = p.policy_hash
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(s.valid_from, s.valid_to, as_of_run) AND (p.resource_arn IS NOT NULL OR g.subject IS NOT NULL)
