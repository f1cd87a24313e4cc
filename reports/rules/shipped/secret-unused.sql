-- id: secret-unused
-- title: Secrets are read now and then
-- severity: low
-- family: secrets
-- why: >-
--   A secret that nobody has read for months is a valid password without an owner: it costs money, and it is still good
--   for whoever finds a way to it.
-- fix: >-
--   Ask its owner. If nobody needs it, disable what it opens (the database user, the token) and schedule the deletion
--   of the secret with a waiting time, during which it can be restored. A secret kept for emergencies can be waived
--   with an expiry date.
-- console: >-
--   In Secrets Manager open the secret, compare "Last retrieved" under "Secret details", and choose "Actions", "Delete
--   secret" with a waiting period.
-- cli: >-
--   aws secretsmanager delete-secret --secret-id SECRET_ARN --recovery-window-in-days 30
-- terraform: >-
--   Remove the aws_secretsmanager_secret; recovery_window_in_days = 30 keeps it restorable that long.
-- parameters:
--   days:
--     default: "90"
--     about: >-
--       After how many days without being read a secret counts as unused.
WITH asked AS (
  SELECT CAST(max(started_at) AS DATE) AS today FROM runs
), secret AS (
  SELECT r.*, a.today - CAST($days AS INTEGER) AS limit_on, (r.details ->> 'last_accessed') AS reported,
    -- Kept to the week: the Monday is known, the day itself may be any up to Sunday.
    try_cast((r.details ->> 'last_accessed') AS DATE) AS week, CAST(r.created_at AS DATE) AS created_on
  FROM internal.secrets r CROSS JOIN asked a
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL OR s.primary_region IS NOT NULL THEN 'not_applicable'
    WHEN s.reported IS NULL THEN 'unknown'
    WHEN s.reported = 'never' AND s.created_on IS NULL THEN 'unknown'
    WHEN s.reported = 'never' AND s.created_on < s.limit_on THEN 'fail'
    WHEN s.week + 6 < s.limit_on THEN 'fail'
    WHEN s.reported = 'never' AND s.created_on IS NOT NULL THEN 'pass'
    WHEN s.week IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN s.not_applicable_reason
    WHEN s.primary_region IS NOT NULL
      THEN 'It is a replica of the secret in ' || s.primary_region || ': it is there for emergencies.'
    WHEN s.reported IS NULL THEN 'It was not told when it was last read.'
    WHEN s.reported = 'never' AND s.created_on IS NULL THEN 'It was never read, and it is not known when it was created.'
    WHEN s.reported = 'never' AND s.created_on < s.limit_on
      THEN 'It was never read since it was created on ' || strftime(s.created_on, '%Y-%m-%d') || '.'
    WHEN s.week + 6 < s.limit_on
      THEN 'It was last read in the week of ' || strftime(s.week, '%Y-%m-%d') || ', longer ago than ' || $days
      || ' days.'
    WHEN s.reported = 'never' AND s.created_on IS NOT NULL
      THEN 'It was created on ' || strftime(s.created_on, '%Y-%m-%d') || ' and not yet read.'
    WHEN s.week IS NOT NULL THEN 'It was last read in the week of ' || strftime(s.week, '%Y-%m-%d') || '.'
    ELSE 'When it was last read is not known to this rule: ' || s.reported || '.'
  END || s.stale_note AS reason
FROM secret s
