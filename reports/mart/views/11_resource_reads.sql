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
  CASE WHEN f.account_id IS NULL OR l.action IS NOT NULL THEN 'stale' ELSE 'current' END AS freshness,
  CASE WHEN f.account_id IS NULL OR l.action IS NOT NULL OR d.action IS NOT NULL THEN 'stale' ELSE 'current' END AS key_freshness,
  d.reason AS key_unknown_reason, d.since AS key_unknown_since
FROM internal.resource s
LEFT JOIN internal.resource_operation o ON o.resource_type = s.resource_type
LEFT JOIN confirmed f ON f.account_id = s.account_id AND f.region = s.listing_region
LEFT JOIN denied l ON l.account_id = s.account_id AND l.region = s.listing_region AND l.subject = ''
  AND l.action = coalesce(o.listing,
    lower(split_part(s.resource_type, '::', 2)) || ':List' || split_part(s.resource_type, '::', 3) || 's')
LEFT JOIN denied d ON d.account_id = s.account_id AND d.region = s.listing_region AND d.subject = s.resource_arn
  AND d.action = o.detail
WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
