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
WITH secret AS (
  SELECT s.*, CAST(r.started_at AS DATE) - CAST($days AS INTEGER) AS limit_on, (s.details ->> 'last_accessed') AS last_accessed,
    -- Stored with weekly precision: the Monday of the week; the actual day may be any day up to Sunday.
    try_cast(last_accessed AS DATE) AS week, CAST(s.created_at AS DATE) AS created_on
  FROM internal.secrets s
  CROSS JOIN internal.latest_run r
)
SELECT resource_arn, account_id, region, NULL AS key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    WHEN primary_region IS NOT NULL
      THEN not_applicable('It is a replica of the secret in ' || primary_region || ', which exists for failover.')
    WHEN last_accessed IS NULL THEN unknown('Secrets Manager did not report when it was last read.')
    WHEN last_accessed = 'never' AND created_on IS NULL
      THEN unknown('It was never read, and its creation date could not be determined.')
    WHEN last_accessed = 'never' AND created_on < limit_on
      THEN fail('It has not been read since it was created on ' || strftime(created_on, '%Y-%m-%d') || '.')
    WHEN week + 6 < limit_on
      THEN fail('It was last read in the week of ' || strftime(week, '%Y-%m-%d') || ', more than ' || $days || ' days ago.')
    WHEN last_accessed = 'never'
      THEN pass('It was created on ' || strftime(created_on, '%Y-%m-%d') || ' and has not been read yet.')
    WHEN week IS NOT NULL THEN pass('It was last read in the week of ' || strftime(week, '%Y-%m-%d') || '.')
    ELSE unknown('This rule does not recognize the date of its last read: ' || last_accessed || '.')
  END AS verdict
FROM secret
