-- id: alias-moved
-- title: No alias in use was moved to another key lately
-- severity: medium
-- family: aliases
-- why: >-
--   Who moves an alias decides with which key everything that names it encrypts from now on: a key of another team,
--   one that is about to be deleted, or one that the backup account may not use. It takes one call, and nothing
--   breaks on that day.
-- fix: >-
--   Ask whoever moved it (CloudTrail: UpdateAlias) whether it was planned. If it was, this finding ends by itself
--   when the days have passed; keep the old key enabled, because the data that it encrypted still needs it. If it was
--   not, move the alias back, and look for what was encrypted in between.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Aliases", which shows the aliases that point at it.
-- cli: |-
--   aws cloudtrail lookup-events --lookup-attributes AttributeKey=EventName,AttributeValue=UpdateAlias
--   aws kms update-alias --alias-name alias/NAME --target-key-id OLD_KEY_ID
-- terraform: >-
--   Set target_key_id of aws_kms_alias to the intended key and apply; a plan without changes shows that the alias is
--   where it should be.
-- parameters:
--   days: {default: "7", about: "For how many days after its move an alias fails."}
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), named AS (
  SELECT a.alias_arn, a.alias_name, a.account_id, a.region, a.target_key_arn, a.created_at, a.updated_at, a.since
  FROM aliases a
  WHERE NOT starts_with(a.alias_name, 'alias/aws/') AND a.target_key_arn IS NOT NULL
), earlier AS (
  SELECT n.alias_arn, arg_max(h.target_key_arn, h.valid_to) AS target_key_arn, max(h.valid_to_at) AS until
  FROM named n
  JOIN aliases_history h ON h.alias_arn = n.alias_arn AND h.target_key_arn <> n.target_key_arn
  WHERE h.valid_to IS NOT NULL
  GROUP BY n.alias_arn
), moved AS (
  SELECT n.*, e.target_key_arn AS old_key_arn,
    CASE WHEN n.updated_at IS NULL AND e.until IS NULL THEN NULL
      WHEN n.updated_at > n.created_at THEN n.updated_at ELSE e.until END AS moved_at,
    n.updated_at IS NOT NULL OR e.until IS NOT NULL AS reported, now.moment - to_days(CAST($days AS INTEGER)) AS oldest
  FROM named n
  CROSS JOIN now
  LEFT JOIN earlier e ON e.alias_arn = n.alias_arn
), recent AS (
  SELECT * FROM moved WHERE moved_at >= oldest
), referred AS (
  SELECT alias_arn, count(*) AS resources
  FROM (
    SELECT m.alias_arn, u.resource_arn FROM recent m JOIN resource_keys u ON u.raw_value = m.alias_arn
    UNION
    SELECT m.alias_arn, u.resource_arn
    FROM recent m
    JOIN resource_keys u ON u.raw_value = m.alias_name AND u.account_id = m.account_id AND u.region = m.region
  )
  GROUP BY alias_arn
), use AS (
  -- In use: something uses the key that it points at now, or did until it moved.
  SELECT m.alias_arn,
    bool_or(k.dependent_resources > 0 OR k.grants > 0 OR k.last_use = 'used') AS used,
    count(*) FILTER (k.grants = 0 AND k.last_use = 'never_used' AND k.last_use_reported_at IS NOT NULL) AS idle,
    bool_or(len(n.denied_resource_actions) > 0) AS blind
  FROM (
    SELECT alias_arn, account_id, region, unnest([target_key_arn, old_key_arn]) AS key_arn FROM recent
  ) m
  JOIN keys k ON k.key_arn = m.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  GROUP BY m.alias_arn
)
SELECT
  m.alias_arn AS resource_arn, m.account_id, m.region, m.target_key_arn AS key_arn,
  CASE
    WHEN NOT m.reported THEN 'unknown'
    WHEN m.moved_at >= m.oldest AND r.resources IS NULL AND u.used IS NOT TRUE
      AND (u.idle IS NULL OR u.idle < 2 OR u.blind) THEN 'unknown'
    WHEN m.moved_at >= m.oldest AND (r.resources IS NOT NULL OR u.used) THEN 'fail'
    WHEN m.moved_at >= m.oldest OR m.moved_at < m.oldest OR m.moved_at IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT m.reported THEN 'AWS did not tell when the alias was last moved.'
    WHEN m.moved_at IS NULL THEN 'The alias never moved.'
    ELSE 'The alias was moved on ' || strftime(m.moved_at, '%Y-%m-%d')
      || coalesce(' from key ' || split_part(m.old_key_arn, ':key/', 2), '')
      || ' to key ' || split_part(m.target_key_arn, ':key/', 2)
      || CASE
        WHEN m.moved_at < m.oldest THEN ''
        WHEN r.resources IS NOT NULL THEN '; ' || r.resources || ' resource(s) name it'
        WHEN u.used THEN '; one of the two is in use'
        WHEN u.idle = 2 AND NOT u.blind THEN '; neither is in use'
        ELSE '; whether it is in use is not known' END || '.'
  END AS reason
FROM moved m
LEFT JOIN referred r ON r.alias_arn = m.alias_arn
LEFT JOIN use u ON u.alias_arn = m.alias_arn
