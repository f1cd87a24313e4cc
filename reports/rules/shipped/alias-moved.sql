-- id: alias-moved
-- title: No alias in use was recently moved to another key
-- severity: medium
-- family: aliases
-- why: >-
--   Moving an alias changes the key that everything using the alias encrypts with: possibly a key of another team, a
--   key scheduled for deletion, or a key that the backup account may not use. It takes a single call, and nothing
--   breaks on that day.
-- fix: >-
--   Ask the principal that moved the alias (CloudTrail: UpdateAlias) whether the move was planned. If it was, this
--   finding resolves automatically after the configured number of days; keep the old key enabled, because the data it
--   encrypted still needs it. If it was not, move the alias back and find out what was encrypted in between.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Aliases", which lists the aliases that point to it.
-- cli: |-
--   aws cloudtrail lookup-events --lookup-attributes AttributeKey=EventName,AttributeValue=UpdateAlias
--   aws kms update-alias --alias-name alias/NAME --target-key-id OLD_KEY_ID
-- terraform: >-
--   Set target_key_id of aws_kms_alias to the intended key and apply. An empty plan confirms that the alias points to
--   the right key.
-- parameters:
--   days: {default: "7", about: "Number of days for which an alias fails after it was moved."}
WITH customer_alias AS (
  SELECT a.alias_arn, a.alias_name, a.account_id, a.region, a.target_key_arn, a.created_at, a.updated_at, a.since
  FROM aliases a
  WHERE NOT starts_with(a.alias_name, 'alias/aws/') AND a.target_key_arn IS NOT NULL
), previous_target AS (
  SELECT n.alias_arn, arg_max(h.target_key_arn, h.valid_to) AS target_key_arn, max(h.valid_to_at) AS until
  FROM customer_alias n
  JOIN aliases_history h ON h.alias_arn = n.alias_arn AND h.target_key_arn <> n.target_key_arn
  WHERE h.valid_to IS NOT NULL
  GROUP BY n.alias_arn
), alias_move AS (
  SELECT n.*, e.target_key_arn AS old_key_arn,
    CASE WHEN n.updated_at IS NULL AND e.until IS NULL THEN NULL
      WHEN n.updated_at > n.created_at THEN n.updated_at ELSE e.until END AS moved_at,
    n.updated_at IS NOT NULL OR e.until IS NOT NULL AS reported, r.started_at - to_days(CAST($days AS INTEGER)) AS oldest,
    'The alias was moved on ' || strftime(moved_at, '%Y-%m-%d')
      || coalesce(' from key ' || split_part(old_key_arn, ':key/', 2), '')
      || ' to key ' || split_part(n.target_key_arn, ':key/', 2) AS message
  FROM customer_alias n
  CROSS JOIN internal.latest_run r
  LEFT JOIN previous_target e ON e.alias_arn = n.alias_arn
), recent_move AS (
  SELECT * FROM alias_move WHERE moved_at >= oldest
), alias_references AS (
  SELECT alias_arn, count(*) AS resources
  FROM (
    SELECT m.alias_arn, u.resource_arn FROM recent_move m JOIN resource_keys u ON u.raw_value = m.alias_arn
    UNION
    SELECT m.alias_arn, u.resource_arn
    FROM recent_move m
    JOIN resource_keys u ON u.raw_value = m.alias_name AND u.account_id = m.account_id AND u.region = m.region
  )
  GROUP BY alias_arn
), key_use AS (
  -- In use: something uses the current or the previous target key.
  SELECT m.alias_arn,
    bool_or(k.dependent_resources > 0 OR k.grants > 0 OR k.last_use = 'used') AS used,
    count(*) FILTER (k.grants = 0 AND k.last_use = 'never_used' AND k.last_use_reported_at IS NOT NULL) AS unused_keys,
    bool_or(len(n.unread_resources) > 0) AS has_unread_resources
  FROM (
    SELECT alias_arn, account_id, region, unnest([target_key_arn, old_key_arn]) AS key_arn FROM recent_move
  ) m
  JOIN keys k ON k.key_arn = m.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  GROUP BY m.alias_arn
)
SELECT m.alias_arn AS resource_arn, m.account_id, m.region, m.target_key_arn AS key_arn,
  CASE
    WHEN NOT m.reported THEN unknown('AWS did not report when the alias was last moved.')
    WHEN m.moved_at IS NULL THEN pass('The alias was never moved.')
    WHEN m.moved_at < m.oldest THEN pass(m.message || '.')
    WHEN r.resources IS NOT NULL THEN fail(m.message || '; '
      || internal.counted(r.resources, 'resource refers to it.', 'resources refer to it.'))
    WHEN u.used THEN fail(m.message || '; one of the two keys is in use.')
    WHEN u.unused_keys = 2 AND NOT u.has_unread_resources THEN pass(m.message || '; neither key is in use.')
    ELSE unknown(m.message || '; could not determine whether it is in use.')
  END AS verdict
FROM alias_move m
LEFT JOIN alias_references r ON r.alias_arn = m.alias_arn
LEFT JOIN key_use u ON u.alias_arn = m.alias_arn
