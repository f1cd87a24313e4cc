-- Which resource uses which key, and for what: one row per resource, role and key.
--! stored
--: resource_arn | The resource.
--: resource_type | The CloudFormation type name.
--: service | The service, as in the ARN.
--: resource_name | The resource's name.
--: account_id | The resource's account.
--: account_name | The account's name.
--: region | The resource's region.
--: role | What the key encrypts: storage, secret, performance-insights ...; unknown if the key is unknown.
--: position | 0, 1 ... if a role can have several keys.
--: raw_value | The key as the resource declares it; NULL if it declares none.
--: format | The format of raw_value: key_arn, key_id, alias_name, alias_arn, omitted, sentinel or malformed.
--: key_arn | The key that raw_value resolves to.
--: key_alias | The first alias of that key.
--: key_account_id | The account of that key.
--: key_state | The state of that key, if it is in the ledger.
--: key_class | customer, aws_managed, aws_owned, none, not_crawled, dangling (the key does not exist) or unknown.
--: reason | Why the key has this class, unless it is obvious.
--: freshness | current, or stale: the run could not read the resource again.
--: since | When this version of it was first seen.
WITH alias AS (
  SELECT target_key_arn AS key_arn, min(alias_name) AS alias_name FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IS NOT NULL
  GROUP BY target_key_arn
), gap AS (
  SELECT DISTINCT ON (subject) subject, coalesce(z.text, g.cause) || ' (' || g.action || ')' AS text, g.valid_from
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject <> ''
  ORDER BY subject, g.action, g.region
), confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial')
), usage AS (
  SELECT u.resource_arn, u.role, u.position, f.raw_value, f.format, u.key_arn, u.key_class, u.reason, u.valid_from
  FROM internal.resource_key u
  LEFT JOIN internal.key_reference f ON f.resource_arn = u.resource_arn AND f.role = u.role AND f.position = u.position
    AND internal.known(f.valid_from, f.valid_to, as_of_run)
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run)
), every AS (
  SELECT * FROM usage
  UNION ALL
  SELECT g.subject, 'unknown', 0, NULL, NULL, NULL, 'unknown', g.text, g.valid_from
  FROM gap g
  WHERE NOT EXISTS (SELECT 1 FROM internal.resource_key u
    WHERE u.resource_arn = g.subject AND internal.known(u.valid_from, u.valid_to, as_of_run))
)
SELECT s.resource_arn, s.resource_type,
  CASE WHEN starts_with(s.resource_arn, 'arn:') THEN split_part(s.resource_arn, ':', 3)
    ELSE lower(split_part(s.resource_type, '::', 2)) END AS service,
  s.name AS resource_name, s.account_id, c.name AS account_name, s.region, e.role, e.position, e.raw_value, e.format, e.key_arn,
  a.alias_name AS key_alias, CASE WHEN e.key_arn IS NOT NULL THEN split_part(e.key_arn, ':', 5) END AS key_account_id,
  m.state AS key_state, e.key_class, e.reason,
  CASE WHEN f.account_id IS NULL OR (g.subject IS NOT NULL AND e.role <> 'unknown') THEN 'stale'
    ELSE 'current' END AS freshness,
  r.started_at AS since
FROM every e
JOIN internal.resource s ON s.resource_arn = e.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN internal.account c ON c.account_id = s.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.key_metadata m ON m.key_arn = e.key_arn AND internal.known(m.valid_from, m.valid_to, as_of_run)
LEFT JOIN alias a ON a.key_arn = e.key_arn
LEFT JOIN gap g ON g.subject = e.resource_arn
LEFT JOIN confirmed f ON f.account_id = s.account_id AND f.region = s.listing_region
LEFT JOIN internal.run r ON r.run_id = e.valid_from
