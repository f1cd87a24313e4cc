"""The queries of the key history; `$keys` are key ARNs, `$run` is a run."""

KEYS = """
SELECT k.key_arn, any_value(k.key_id) AS key_id, any_value(k.account_id) AS account_id,
  arg_max(c.name, c.valid_from) AS account_name, any_value(k.region) AS region, min(k.valid_from) AS first_run
FROM internal.key k LEFT JOIN internal.account c ON c.account_id = k.account_id
WHERE k.key_arn IN (SELECT unnest($keys))
GROUP BY k.key_arn ORDER BY k.key_arn
"""
PERIODS = """
SELECT a.alias_arn, a.alias_name, a.target_key_arn AS key_arn, a.valid_from AS from_run, b.started_at AS "from",
  a.valid_to AS until_run, e.started_at AS until
FROM (
  -- Consecutive versions with the same target are one period.
  SELECT alias_name, alias_arn, target_key_arn, min(valid_from) AS valid_from,
    CASE WHEN bool_and(valid_to IS NOT NULL) THEN max(valid_to) END AS valid_to
  FROM (
    SELECT *, count(*) FILTER (valid_from IS DISTINCT FROM previous_end OR target_key_arn IS DISTINCT FROM previous_target)
      OVER (PARTITION BY alias_arn ORDER BY valid_from) AS period
    FROM (
      SELECT *, lag(valid_to) OVER (PARTITION BY alias_arn ORDER BY valid_from) AS previous_end,
        lag(target_key_arn) OVER (PARTITION BY alias_arn ORDER BY valid_from) AS previous_target
      FROM internal.alias
      WHERE alias_arn IN (SELECT alias_arn FROM internal.alias WHERE target_key_arn IN (SELECT unnest($keys)))
    )
  )
  GROUP BY alias_name, alias_arn, target_key_arn, period
) a
LEFT JOIN internal.run b ON b.run_id = a.valid_from
LEFT JOIN internal.run e ON e.run_id = a.valid_to
ORDER BY a.alias_name, a.alias_arn, a.valid_from
"""
CHANGES = """
SELECT * FROM internal.change
WHERE key_arn IN (SELECT unnest($keys))
  OR (event_type IN ('rekeyed', 'alias_moved') AND (before IN (SELECT unnest($keys)) OR after IN (SELECT unnest($keys))))
"""
FACTS = """
SELECT m.*, o.status AS rotation_status, o.period_days, d.received AS policy,
  (SELECT list(alias_name ORDER BY alias_name) FROM internal.alias a
    WHERE a.target_key_arn = $key AND internal.known(a.valid_from, a.valid_to, $run)) AS aliases,
  (SELECT list(tag_key || '=' || tag_value ORDER BY tag_key) FROM internal.tag t
    WHERE t.resource_arn = $key AND internal.known(t.valid_from, t.valid_to, $run)) AS tags,
  (SELECT list(rotated_at ORDER BY rotated_at) FROM internal.key_rotation_event e
    WHERE e.key_arn = $key AND internal.known(e.valid_from, e.valid_to, $run)) AS rotated,
  (SELECT list({'grantee': coalesce(grantee_service_principal, grantee_principal, 'no grantee'), 'operations': operations}
    ORDER BY grant_id) FROM internal.key_grant g
    WHERE g.key_arn = $key AND internal.known(g.valid_from, g.valid_to, $run)) AS grants,
  (SELECT list(DISTINCT noun(s.resource_type) || ' ' || s.name ORDER BY noun(s.resource_type) || ' ' || s.name)
    FROM internal.resource_key u JOIN internal.resource s ON s.resource_arn = u.resource_arn
      AND internal.known(s.valid_from, s.valid_to, $run)
    WHERE u.key_arn = $key AND internal.known(u.valid_from, u.valid_to, $run)) AS dependent_resources
FROM (SELECT $key AS arn) k
LEFT JOIN internal.key_metadata m ON m.key_arn = $key AND internal.known(m.valid_from, m.valid_to, $run)
LEFT JOIN internal.key_rotation o ON o.key_arn = $key AND internal.known(o.valid_from, o.valid_to, $run)
LEFT JOIN internal.key_policy p ON p.key_arn = $key AND internal.known(p.valid_from, p.valid_to, $run)
LEFT JOIN internal.policy_document d ON d.policy_hash = p.policy_hash
"""
# Uses that view changes omits: uses that begin or end with their resource, and uses that only became known or unknown.
USES = """
WITH used AS (
  SELECT * FROM internal.resource_key WHERE resource_arn IN (
    SELECT resource_arn FROM internal.resource_key WHERE key_arn IN (SELECT unnest($keys))
  )
), resource AS (
  SELECT resource_arn, arg_max(name, valid_from) AS subject,
    capital(noun(arg_max(resource_type, valid_from))) || ' ' || arg_max(name, valid_from) AS name,
    min(valid_from) AS first_seen_run
  FROM internal.resource WHERE resource_arn IN (SELECT resource_arn FROM used)
  GROUP BY resource_arn
), began AS (
  SELECT n.valid_from AS run_id, n.key_arn, n.resource_arn, n.role, 'use_began' AS event_type, CASE
      WHEN o.resource_arn IS NOT NULL THEN ' is now known to use {key}.'
      WHEN c.run_id IS NOT NULL THEN ', a new resource, uses {key}.'
      ELSE ' was first seen using {key}.'
    END AS tail
  FROM used n
  JOIN resource t ON t.resource_arn = n.resource_arn
  LEFT JOIN used o ON o.resource_arn = n.resource_arn AND o.role = n.role AND o.position = n.position
    AND o.valid_to = n.valid_from
  LEFT JOIN internal.change c ON c.resource_arn = n.resource_arn AND c.event_type = 'resource_created' AND c.run_id = n.valid_from
  WHERE n.key_arn IN (SELECT unnest($keys))
    AND (o.resource_arn IS NULL OR (o.key_arn IS NULL AND o.key_class IN ('unknown', 'not_crawled')))
), ended AS (
  SELECT o.valid_to AS run_id, o.key_arn, o.resource_arn, o.role, 'use_ended' AS event_type, CASE
      WHEN n.resource_arn IS NOT NULL THEN ' is no longer known to use {key}.'
      WHEN x.resource_arn IS NULL THEN ', which used {key}, no longer exists.'
      ELSE ' no longer uses {key}.'
    END AS tail
  FROM used o
  LEFT JOIN used n ON n.resource_arn = o.resource_arn AND n.role = o.role AND n.position = o.position
    AND n.valid_from = o.valid_to
  LEFT JOIN internal.resource x ON x.resource_arn = o.resource_arn AND internal.known(x.valid_from, x.valid_to, o.valid_to)
  WHERE o.key_arn IN (SELECT unnest($keys)) AND o.valid_to IS NOT NULL
    AND (n.resource_arn IS NULL OR (n.key_arn IS NULL AND n.key_class IN ('unknown', 'not_crawled')))
)
SELECT e.run_id, e.key_arn, e.resource_arn, t.subject, e.role, e.event_type, t.name || e.tail AS message
FROM (FROM began UNION ALL FROM ended) e
JOIN resource t ON t.resource_arn = e.resource_arn
ORDER BY e.run_id, t.name, e.role
"""
GAPS = """
SELECT k.key_arn, g.valid_from AS since, g.valid_to AS until, coalesce(z.text, g.cause) AS reason,
  list_sort(list(DISTINCT g.action)) AS actions
FROM (SELECT DISTINCT key_arn, account_id, region FROM internal.key WHERE key_arn IN (SELECT unnest($keys))) k
JOIN internal.gap g ON g.subject = k.key_arn OR (g.subject = '' AND g.account_id = k.account_id AND g.region = k.region
  AND g.operation IN ('ListKeys', 'ListAliases'))
LEFT JOIN internal.gap_cause z ON z.cause = g.cause
GROUP BY k.key_arn, g.valid_from, g.valid_to, coalesce(z.text, g.cause)
ORDER BY since, actions
"""
OUTCOMES = """
SELECT run_id, arg_min(outcome, account_region) AS outcome, arg_min(reason, account_region) AS reason
FROM (
  SELECT *, CASE WHEN region = $region THEN 0 ELSE 1 END AS account_region FROM internal.scope_coverage
  WHERE account_id = $account AND region IN ($region, '*')
)
GROUP BY run_id
"""
CLOSED_GAPS = """
SELECT subject AS key_arn, until AS run_id, min(since) AS since, list_sort(list(DISTINCT operation)) AS operations,
  list_sort(list(DISTINCT action)) AS actions
FROM (
  -- A gap whose cause changes is still the same gap.
  SELECT subject, operation, action, min(valid_from) AS since,
    CASE WHEN bool_and(valid_to IS NOT NULL) THEN max(valid_to) END AS until
  FROM (
    SELECT *, count(*) FILTER (valid_from IS DISTINCT FROM previous_end)
      OVER (PARTITION BY subject, service, operation ORDER BY valid_from) AS gap_number
    FROM (
      SELECT *, lag(valid_to) OVER (PARTITION BY subject, service, operation ORDER BY valid_from) AS previous_end
      FROM internal.gap WHERE subject IN (SELECT unnest($keys))
    )
  )
  GROUP BY subject, service, operation, action, gap_number
)
WHERE until IS NOT NULL
GROUP BY subject, until, since
ORDER BY until
"""
