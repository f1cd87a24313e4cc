-- id: secret-unused
-- title: Secrets are read regularly
-- severity: low
-- family: secrets
-- why: >-
--   A secret that has not been read for months is a valid password without an owner: it costs money, and it remains
--   useful to anyone who gains access to it.
-- fix: >-
--   Ask the owner. If the secret is not needed, disable what it opens (the database user, the token) and schedule the
--   deletion of the secret with a recovery window, during which it can be restored. Waive a secret kept for
--   emergencies, with an expiration date.
-- console: >-
--   In Secrets Manager, open the secret, check "Last retrieved" under "Secret details", and choose "Actions", "Delete
--   secret" with a waiting period.
-- cli: >-
--   aws secretsmanager delete-secret --secret-id SECRET_ARN --recovery-window-in-days 30
-- terraform: >-
--   Remove the aws_secretsmanager_secret; with recovery_window_in_days = 30, it can be restored for that time.
-- parameters:
--   days:
--     default: "90"
--     about: >-
--       Number of days without a read after which a secret counts as unused.
WITH latest_run AS (
  SELECT CAST(max(started_at) AS DATE) AS today FROM runs
), secret AS (
  SELECT r.*, a.today - CAST($days AS INTEGER) AS limit_on, (r.details ->> 'last_accessed') AS last_accessed,
    -- Stored with weekly precision: the Monday of the week; the actual day may be any day up to Sunday.
    try_cast((r.details ->> 'last_accessed') AS DATE) AS week, CAST(r.created_at AS DATE) AS created_on
  FROM internal.secrets r CROSS JOIN latest_run a
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL OR s.primary_region IS NOT NULL THEN 'not_applicable'
    WHEN s.last_accessed IS NULL THEN 'unknown'
    WHEN s.last_accessed = 'never' AND s.created_on IS NULL THEN 'unknown'
    WHEN s.last_accessed = 'never' AND s.created_on < s.limit_on THEN 'fail'
    WHEN s.week + 6 < s.limit_on THEN 'fail'
    WHEN s.last_accessed = 'never' AND s.created_on IS NOT NULL THEN 'pass'
    WHEN s.week IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN s.not_applicable_reason
    WHEN s.primary_region IS NOT NULL
      THEN 'It is a replica of the secret in ' || s.primary_region || ', which exists for failover.'
    WHEN s.last_accessed IS NULL THEN 'Secrets Manager did not report when it was last read.'
    WHEN s.last_accessed = 'never' AND s.created_on IS NULL
      THEN 'It was never read, and its creation date could not be determined.'
    WHEN s.last_accessed = 'never' AND s.created_on < s.limit_on
      THEN 'It has not been read since it was created on ' || strftime(s.created_on, '%Y-%m-%d') || '.'
    WHEN s.week + 6 < s.limit_on
      THEN 'It was last read in the week of ' || strftime(s.week, '%Y-%m-%d') || ', more than ' || $days
      || ' days ago.'
    WHEN s.last_accessed = 'never' AND s.created_on IS NOT NULL
      THEN 'It was created on ' || strftime(s.created_on, '%Y-%m-%d') || ' and has not been read yet.'
    WHEN s.week IS NOT NULL THEN 'It was last read in the week of ' || strftime(s.week, '%Y-%m-%d') || '.'
    ELSE 'This rule does not recognize the date of its last read: ' || s.last_accessed || '.'
  END || s.stale_note AS reason
FROM secret s
