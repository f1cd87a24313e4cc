-- The resources that can hold data under a key.
--! stored
--: resource_arn | The resource's ARN.
--: resource_type | CloudFormation's type name.
--: service | The service, as in the ARN.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: name | Its name.
--: status | Its status, in the service's words.
--: encryption | What the service says of encryption, in its own words.
--: created_at | When it was created.
--: deletion_at | When its deletion was asked for or is due.
--: details | Further fields, as JSON.
--: freshness | yes, or last known: the run could not see it again.
--: since | When it was first seen as it is.
WITH confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial')
), gapped AS (
  SELECT DISTINCT subject FROM internal.gap g WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject <> ''
)
SELECT s.resource_arn, s.resource_type,
  CASE WHEN starts_with(s.resource_arn, 'arn:') THEN split_part(s.resource_arn, ':', 3)
    ELSE lower(split_part(s.resource_type, '::', 2)) END AS service,
  s.account_id, c.name AS account_name, s.region, s.name, s.status, s.encryption, s.created_at, s.deletion_at, s.details,
  CASE WHEN f.account_id IS NULL OR g.subject IS NOT NULL THEN 'stale' ELSE 'current' END AS freshness,
  r.started_at AS since
FROM internal.resource s
LEFT JOIN confirmed f ON f.account_id = s.account_id AND f.region = s.listing_region
LEFT JOIN gapped g ON g.subject = s.resource_arn
LEFT JOIN internal.account c ON c.account_id = s.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = s.valid_from
WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
