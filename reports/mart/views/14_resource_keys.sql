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
--: freshness | current, or stale: the run could not read the keys of the resource again.
--: since | When this version of it was first seen.
WITH alias AS (
  SELECT target_key_arn AS key_arn, min(alias_name) AS alias_name FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IS NOT NULL
  GROUP BY target_key_arn
), member AS (
  -- RDS encrypts the storage of a cluster, not of its members, and their own flag is false for a key that RDS owns.
  SELECT resource_arn AS member_arn, details ->> 'cluster' AS cluster,
    array_to_string(string_split(resource_arn, ':')[1:5], ':') || ':cluster:' || cluster AS cluster_arn
  FROM internal.resource s
  WHERE internal.known(s.valid_from, s.valid_to, as_of_run) AND resource_type LIKE '%::DBInstance' AND cluster IS NOT NULL
), usage AS (
  SELECT u.resource_arn, u.role, u.position, f.raw_value, f.format,
    CASE WHEN m.member_arn IS NULL THEN u.key_arn ELSE c.key_arn END AS key_arn,
    CASE WHEN m.member_arn IS NULL THEN u.key_class ELSE coalesce(c.key_class, 'unknown') END AS key_class,
    CASE WHEN m.member_arn IS NULL THEN u.reason WHEN c.resource_arn IS NOT NULL THEN c.reason
      ELSE 'it uses the storage of cluster ' || m.cluster || ', which was not read' END AS reason,
    greatest(u.valid_from, c.valid_from) AS valid_from, coalesce(c.resource_arn, u.resource_arn) AS read_arn
  FROM internal.resource_key u
  LEFT JOIN internal.key_reference f ON f.resource_arn = u.resource_arn AND f.role = u.role AND f.position = u.position
    AND internal.known(f.valid_from, f.valid_to, as_of_run)
  LEFT JOIN member m ON m.member_arn = u.resource_arn AND u.role = 'storage' AND u.key_class IN ('none', 'unknown')
  LEFT JOIN internal.resource_key c ON c.resource_arn = m.cluster_arn AND c.role = 'storage'
    AND internal.known(c.valid_from, c.valid_to, as_of_run)
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run)
), every AS (
  SELECT * FROM usage
  UNION ALL
  SELECT g.resource_arn, 'unknown', 0, NULL, NULL, NULL, 'unknown', g.key_unknown_reason, g.key_unknown_since, NULL
  FROM internal.resource_reads_as_of(as_of_run) g
  WHERE g.key_unknown_reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM internal.resource_key u
    WHERE u.resource_arn = g.resource_arn AND internal.known(u.valid_from, u.valid_to, as_of_run))
)
SELECT s.resource_arn, s.resource_type,
  CASE WHEN starts_with(s.resource_arn, 'arn:') THEN split_part(s.resource_arn, ':', 3)
    ELSE lower(split_part(s.resource_type, '::', 2)) END AS service,
  s.name AS resource_name, s.account_id, c.name AS account_name, s.region, e.role, e.position, e.raw_value, e.format, e.key_arn,
  a.alias_name AS key_alias, CASE WHEN e.key_arn IS NOT NULL THEN split_part(e.key_arn, ':', 5) END AS key_account_id,
  m.state AS key_state, e.key_class, e.reason,
  coalesce(f.key_freshness, 'current') AS freshness,
  r.started_at AS since
FROM every e
JOIN internal.resource s ON s.resource_arn = e.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN internal.account c ON c.account_id = s.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.key_metadata m ON m.key_arn = e.key_arn AND internal.known(m.valid_from, m.valid_to, as_of_run)
LEFT JOIN alias a ON a.key_arn = e.key_arn
LEFT JOIN internal.resource_reads_as_of(as_of_run) f ON f.resource_arn = e.read_arn
LEFT JOIN internal.run r ON r.run_id = e.valid_from
