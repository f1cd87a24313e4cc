-- Aliases `names`, or of the keys `arns`, that moved to another key while resources of `services` still use the old one.
WITH past AS (
  SELECT a.alias_arn, a.alias_name, a.target_key_arn AS from_arn, max(a.valid_to) AS run_id FROM internal.alias a
  WHERE a.valid_from <= $run AND a.valid_to <= $run AND a.target_key_arn IS NOT NULL GROUP BY ALL
), dependent AS (
  SELECT key_arn, list(name ORDER BY service, name, resource_arn) AS names,
    first(resource_arn ORDER BY service, name, resource_arn) AS first_arn
  FROM (SELECT DISTINCT u.key_arn, u.service, u.resource_name AS name, s.status, u.resource_arn
    FROM resource_keys u LEFT JOIN resources s ON s.resource_arn = u.resource_arn WHERE list_contains($services, u.service))
  GROUP BY key_arn
)
SELECT 'alias_moved' AS check_name, 'high' AS severity,
  'Alias ' || p.alias_name || ' was moved to another key (' || split_part(n.target_key_arn, '/', -1) || ') on '
    || coalesce(strftime(r.started_at, '%Y-%m-%d'), 'an unknown date') || ', while ' || CASE
      WHEN len(d.names) > 4 THEN array_to_string(d.names[:4], ', ') || ' and ' || (len(d.names) - 4) || ' more'
      WHEN len(d.names) > 1 THEN array_to_string(d.names[:-2], ', ') || ' and ' || d.names[-1]
      ELSE d.names[1] END || if(len(d.names) = 1, ' still uses', ' still use') || ' the old key. ' || $effect AS reason,
  split_part(p.from_arn, ':', 5) AS account_id, split_part(p.from_arn, ':', 4) AS region, p.from_arn AS key_arn,
  p.alias_name AS key_alias, d.first_arn AS subject, $fix AS fix, r.started_at AS since,
  'from ' || p.from_arn || ' to ' || n.target_key_arn AS evidence
FROM past p
JOIN aliases n ON n.alias_arn = p.alias_arn AND n.target_key_arn <> p.from_arn
JOIN dependent d ON d.key_arn = p.from_arn
LEFT JOIN internal.run r ON r.run_id = p.run_id
WHERE list_contains($names, p.alias_name) OR list_contains($arns, p.from_arn) OR list_contains($arns, n.target_key_arn)
ORDER BY p.alias_name, p.from_arn
