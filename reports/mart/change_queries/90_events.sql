-- Display names as of the run, and the events. Their messages are rendered by the view internal.change.
CREATE TEMP TABLE label AS
WITH selected AS (
  SELECT DISTINCT key_arn, run_id
  FROM (
    SELECT key_arn, run_id FROM stage UNION ALL SELECT key_before, run_id FROM stage UNION ALL SELECT key_after, run_id FROM stage
  )
  WHERE key_arn IS NOT NULL
)
SELECT w.key_arn, w.run_id,
  coalesce(
    min(a.alias_name) FILTER (internal.known(a.valid_from, a.valid_to, w.run_id)),
    -- An alias that moved to another key is the name of that key now.
    min(a.alias_name) FILTER (a.valid_to = w.run_id AND m.alias_arn IS NULL), id_of(w.key_arn)
  ) AS name_after,
  coalesce(
    min(a.alias_name) FILTER (a.valid_from < w.run_id AND (a.valid_to IS NULL OR a.valid_to >= w.run_id)), id_of(w.key_arn)
  ) AS name_before
FROM selected w
LEFT JOIN internal.alias a ON a.target_key_arn = w.key_arn AND a.valid_from <= w.run_id AND a.valid_to IS DISTINCT FROM a.valid_from
  AND (a.valid_to IS NULL OR a.valid_to >= w.run_id)
LEFT JOIN internal.alias m ON m.alias_arn = a.alias_arn AND m.valid_from = a.valid_to
GROUP BY w.key_arn, w.run_id;

CREATE TEMP MACRO class_text(key_class) AS CASE key_class
  WHEN 'none' THEN 'no key' WHEN 'aws_owned' THEN 'a key that AWS owns' WHEN 'aws_managed' THEN 'an AWS managed key'
  ELSE 'a key that no longer exists' END;

CREATE TEMP TABLE event AS
SELECT s.run_id, r.started_at AS occurred_at, s.account_id, c.name AS account_name, s.region, s.key_arn, s.resource_arn,
  coalesce(s.subject, l.name_after) AS subject, s.event_type, s.severity, s.head, s.located,
  CASE WHEN s.event_type <> 'rekeyed' THEN s.tail
    WHEN s.key_before = s.key_after THEN ' uses key ' || n.name_before || ', which no longer exists.'
    -- The alias moved with it and would name both keys.
    WHEN n.name_after = o.name_before THEN ' now uses key ' || id_of(s.key_after) || ' (was ' || id_of(s.key_before) || ').'
    ELSE ' now uses ' || coalesce('key ' || n.name_after, class_text(s.after))
      || ' (was ' || coalesce(o.name_before, class_text(s.before)) || ').'
  END AS tail,
  s.before, s.after
FROM stage s
-- Pruned runs lack the older versions: a change would look like an addition.
JOIN internal.run r ON r.run_id = s.run_id AND r.status <> 'pruned'
LEFT JOIN internal.account c ON c.account_id = s.account_id AND internal.known(c.valid_from, c.valid_to, s.run_id)
LEFT JOIN label l ON l.key_arn = s.key_arn AND l.run_id = s.run_id
LEFT JOIN label o ON o.key_arn = s.key_before AND o.run_id = s.run_id
LEFT JOIN label n ON n.key_arn = s.key_after AND n.run_id = s.run_id
ORDER BY s.run_id, s.event_type, s.account_id, s.region, s.key_arn
