-- id: secret-rotation-overdue
-- title: Secrets with rotation rotate on schedule
-- severity: high
-- family: secrets
-- why: >-
--   Rotation that is enabled but fails is worse than none: everyone assumes that the password is fresh. Typical causes
--   are a rotation function that lost its network path or its permission on the KMS key of the secret, and nobody is
--   notified.
-- fix: >-
--   Check the log of the rotation function for the last attempts, fix the reported cause (network access to the
--   database and to Secrets Manager, kms:Decrypt and kms:GenerateDataKey on the key of the secret, the permission of
--   Secrets Manager to invoke the function), and rotate immediately. If a failed attempt left a version in the stage
--   AWSPENDING, that label may have to be removed first.
-- console: >-
--   In Secrets Manager, open the secret, tab "Rotation", which shows the last and the next rotation; fix the cause,
--   then choose "Rotate secret immediately".
-- cli: |-
--   aws secretsmanager describe-secret --secret-id SECRET_ARN
--   aws secretsmanager rotate-secret --secret-id SECRET_ARN
-- terraform: >-
--   Terraform cannot detect whether a rotation succeeded; aws_secretsmanager_secret_rotation only sets the schedule.
-- parameters:
--   days:
--     default: "90"
--     about: >-
--       Number of days without a rotation after which a secret fails, regardless of its own schedule.
--   grace_days:
--     default: "2"
--     about: >-
--       Number of days by which a scheduled rotation may be late.
WITH latest_run AS (
  SELECT CAST(max(started_at) AS DATE) AS today FROM runs
), secret AS (
  SELECT r.*, a.today, (r.details ->> 'last_rotated') AS last_rotated,
    try_cast(left((r.details ->> 'last_rotated'), 10) AS DATE) AS rotated_on,
    try_cast(left((r.details ->> 'next_rotation'), 10) AS DATE) AS due_on,
    try_cast((r.details ->> 'rotation_days') AS INTEGER) AS every_days
  FROM internal.secrets r CROSS JOIN latest_run a
), evaluated AS (
  SELECT s.*,
    s.due_on < s.today - CAST($grace_days AS INTEGER) AS missed,
    s.rotated_on + s.every_days < s.today - CAST($grace_days AS INTEGER) AS late,
    s.rotated_on < s.today - CAST($days AS INTEGER) AS expired
  FROM secret s
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL OR s.primary_region IS NOT NULL THEN 'not_applicable'
    WHEN s.details IS NOT NULL AND coalesce((s.details ->> 'rotation_enabled'), 'false') = 'false' THEN 'not_applicable'
    WHEN s.last_rotated IS NULL AND s.missed IS NOT TRUE THEN 'unknown'
    WHEN s.rotated_on IS NULL AND s.due_on IS NULL THEN 'unknown'
    WHEN s.missed THEN 'fail'
    WHEN s.late THEN 'fail'
    WHEN s.expired THEN 'fail'
    WHEN s.rotated_on IS NOT NULL THEN 'pass'
    WHEN s.due_on IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN s.not_applicable_reason
    WHEN s.primary_region IS NOT NULL
      THEN 'It is a replica of the secret in ' || s.primary_region || ', where it is evaluated.'
    WHEN s.details IS NOT NULL AND coalesce((s.details ->> 'rotation_enabled'), 'false') = 'false'
      THEN 'It does not rotate automatically.'
    WHEN s.last_rotated IS NULL AND s.missed IS NOT TRUE THEN 'Secrets Manager did not report when it last rotated.'
    WHEN s.rotated_on IS NULL AND s.due_on IS NULL THEN 'It has never rotated, and Secrets Manager did not report when it will.'
    WHEN s.missed THEN 'It should have rotated by ' || strftime(s.due_on, '%Y-%m-%d')
      || coalesce('; it last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d'), ', but has never rotated') || '.'
    WHEN s.late THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d') || ', although its schedule is every '
      || s.every_days || ' days.'
    WHEN s.expired THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d') || ', more than ' || $days
      || ' days ago.'
    WHEN s.rotated_on IS NOT NULL THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d')
      || coalesce(', next by ' || strftime(s.due_on, '%Y-%m-%d'), '') || '.'
    WHEN s.due_on IS NOT NULL THEN 'Its first rotation is scheduled by ' || strftime(s.due_on, '%Y-%m-%d') || '.'
    ELSE 'This rule does not recognize the date of its last rotation: ' || s.last_rotated || '.'
  END || s.stale_note AS reason
FROM evaluated s
