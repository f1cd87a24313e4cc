-- Whether CloudTrail trails record the calls to KMS, and so the use of keys, by account and region.
--! stored
--: account_id | The account.
--: account_name | Its name.
--: region | The region.
--: kms_events | The events of KMS recorded by active trails: all, write (not the use of keys), read, some or none; NULL if unknown.
--: trails | The trails that record events of KMS there.
--: other_trails | The other trails there: inactive, without KMS events, or unknown.
--: reason | What decides, in words.
--: freshness | current; stale: the run could not list the trails again; or none: they were never listed.
WITH account_regions AS (
  SELECT account_id, region, outcome IN ('complete', 'partial') AND reason IS NULL AS confirmed FROM internal.scope_coverage
  WHERE run_id = as_of_run AND region NOT IN ('global', 'organization', '*')
), denied AS (
  SELECT g.account_id, g.region, min(coalesce(z.text, g.cause)) AS reason
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND g.service = 'cloudtrail' AND g.operation = 'DescribeTrails'
  GROUP BY g.account_id, g.region
), listed AS (
  SELECT p.account_id, p.region, p.confirmed, l.account_id IS NOT NULL AS listed, g.reason,
    l.account_id IS NOT NULL AND g.account_id IS NULL AS sure
  FROM account_regions p
  LEFT JOIN internal.trail_scan l ON l.account_id = p.account_id AND l.region = p.region
    AND internal.known(l.valid_from, l.valid_to, as_of_run)
  LEFT JOIN denied g ON g.account_id = p.account_id AND g.region = p.region
), known_trails AS (
  FROM trails_as_of(as_of_run)
), seen AS (
  SELECT account_id, region, trail_arn FROM internal.shadow_trail s
  WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
  UNION
  SELECT account_id, region, trail_arn FROM internal.trail t
  WHERE internal.known(t.valid_from, t.valid_to, as_of_run)
  UNION
  -- Other regions may report what a region cannot: a multi-Region trail records it, and so does an organization trail.
  SELECT l.account_id, l.region, t.trail_arn
  FROM listed l
  JOIN known_trails t ON t.account_id = l.account_id AND (t.is_multi_region OR t.home_region = l.region)
  WHERE NOT l.sure
  UNION
  SELECT l.account_id, l.region, t.trail_arn
  FROM listed l
  JOIN internal.account a ON a.account_id = l.account_id AND internal.known(a.valid_from, a.valid_to, as_of_run)
    AND a.ou_ids IS NOT NULL AND a.state <> 'LEFT'
  JOIN known_trails t ON t.is_organization AND (t.is_multi_region OR t.home_region = l.region)
  WHERE NOT l.sure
), evaluated AS (
  SELECT n.account_id, n.region, t.trail_arn, t.name, t.kms_events, t.logging, t.reason,
    t.logging AND t.kms_events IN ('all', 'read') AS reading,
    t.logging AND t.kms_events IN ('all', 'write') AS writing,
    t.logging AND t.kms_events = 'some' AS partly,
    (t.logging IS NULL AND t.kms_events IS DISTINCT FROM 'none')
      OR (t.kms_events IS NULL AND t.logging IS DISTINCT FROM false) AS unsure
  FROM seen n
  JOIN known_trails t ON t.trail_arn = n.trail_arn
), summed AS (
  SELECT account_id, region, bool_or(reading IS TRUE) AS reading, bool_or(writing IS TRUE) AS writing,
    bool_or(partly IS TRUE) AS partly, bool_or(unsure) AS unsure,
    coalesce(list(trail_arn ORDER BY trail_arn) FILTER (reading OR writing OR partly), CAST([] AS VARCHAR[])) AS trails,
    coalesce(list(trail_arn ORDER BY trail_arn) FILTER ((reading OR writing OR partly) IS NOT TRUE), CAST([] AS VARCHAR[])) AS other_trails,
    string_agg(name, ', ' ORDER BY name) FILTER (reading OR writing OR partly) AS names,
    string_agg(name || ' is switched off', ', ' ORDER BY name) FILTER (logging IS FALSE) AS off,
    string_agg(name || ' leaves KMS out', ', ' ORDER BY name) FILTER (kms_events = 'none') AS without,
    string_agg(DISTINCT name || ': ' || coalesce(reason, 'unknown'), '; ' ORDER BY name || ': ' || coalesce(reason, 'unknown')) FILTER (unsure) AS unknown_reasons
  FROM evaluated
  GROUP BY account_id, region
), decided AS (
  SELECT l.*, coalesce(s.trails, CAST([] AS VARCHAR[])) AS trails, coalesce(s.other_trails, CAST([] AS VARCHAR[])) AS other_trails,
    s.names, s.off, s.without, s.unknown_reasons,
    CASE
      WHEN s.reading AND s.writing THEN 'all'
      WHEN NOT l.listed OR s.unsure THEN NULL
      WHEN s.writing THEN 'write'
      WHEN s.reading THEN 'read'
      WHEN s.partly THEN 'some'
      ELSE 'none'
    END AS kms_events
  FROM listed l
  LEFT JOIN summed s ON s.account_id = l.account_id AND s.region = l.region
)
SELECT d.account_id, c.name AS account_name, d.region, d.kms_events, d.trails, d.other_trails,
  CASE
    WHEN d.kms_events = 'all' THEN 'The calls of KMS are recorded by ' || d.names
    WHEN d.kms_events = 'write' THEN 'Only changes of keys are recorded, not their use, by ' || d.names
    WHEN d.kms_events = 'read' THEN 'Only the use of keys is recorded, not changes of them, by ' || d.names
    WHEN d.kms_events = 'some' THEN 'Some calls of KMS are left out by ' || d.names
    WHEN d.kms_events = 'none' THEN 'No trail records the calls of KMS'
      || coalesce(': ' || nullif(concat_ws(', ', d.off, d.without), ''), '')
    WHEN d.listed THEN d.unknown_reasons
    ELSE 'The trails were never listed there' || coalesce(': ' || d.reason, '')
  END AS reason,
  CASE WHEN NOT d.listed THEN 'none' WHEN d.confirmed AND d.sure THEN 'current' ELSE 'stale' END AS freshness
FROM decided d
LEFT JOIN internal.account c ON c.account_id = d.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
