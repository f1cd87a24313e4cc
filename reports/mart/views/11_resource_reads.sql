-- Whether the run read each resource, and its keys, again: a failed call of another operation changes neither.
--! internal
--: resource_arn | The resource.
--: freshness | current, or stale: the run did not list the resource again.
--: key_freshness | current, or stale: the run did not read the keys of the resource again.
--: key_unknown_reason | Why the keys of the resource could not be read, with the IAM action; NULL if they were read.
--: key_unknown_since | The run that first failed to read them; NULL if they were read.
WITH confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial')
), denied AS (
  SELECT account_id, region, action, subject, min(coalesce(z.text, g.cause) || ' (' || g.action || ')') AS reason,
    min(g.valid_from) AS since
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
  GROUP BY ALL
)
SELECT s.resource_arn,
  CASE WHEN f.account_id IS NULL OR l.action IS NOT NULL OR i.action IS NOT NULL THEN 'stale' ELSE 'current' END AS freshness,
  CASE WHEN f.account_id IS NULL OR l.action IS NOT NULL OR i.action IS NOT NULL OR d.action IS NOT NULL THEN 'stale'
    ELSE 'current' END AS key_freshness,
  coalesce(d.reason, i.reason) AS key_unknown_reason, coalesce(d.since, i.since) AS key_unknown_since
FROM (
  SELECT r.resource_arn, r.account_id, r.listing_region, o.detail, coalesce(o.listing,
    lower(split_part(r.resource_type, '::', 2)) || ':List' || split_part(r.resource_type, '::', 3) || 's') AS listing
  FROM internal.resource r
  LEFT JOIN internal.resource_operation o ON o.resource_type = r.resource_type
  WHERE internal.known(r.valid_from, r.valid_to, as_of_run)
) s
LEFT JOIN confirmed f ON f.account_id = s.account_id AND f.region = s.listing_region
LEFT JOIN denied l ON l.account_id = s.account_id AND l.region = s.listing_region AND l.subject = '' AND l.action = s.listing
-- Its entry in a complete listing was invalid.
LEFT JOIN denied i ON i.account_id = s.account_id AND i.region = s.listing_region AND i.subject = s.resource_arn
  AND i.action = s.listing
LEFT JOIN denied d ON d.account_id = s.account_id AND d.region = s.listing_region AND d.subject = s.resource_arn
  AND d.action = s.detail
