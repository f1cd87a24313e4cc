-- id: secret-rotation-overdue
-- title: Secrets with rotation rotate as planned
-- severity: high
-- family: secrets
-- why: >-
--   A rotation that is switched on but fails is worse than none: everyone believes that the password is fresh. The
--   usual causes are a rotation function that lost its network path or its permission on the secret's KMS key, and
--   nobody is told.
-- fix: >-
--   Look at the log of the rotation function for the last attempts, mend what it reports (network to the database and
--   to Secrets Manager, kms:Decrypt and kms:GenerateDataKey on the secret's key, the permission of Secrets Manager to
--   invoke it), and rotate at once. A version left in stage AWSPENDING by a failed attempt may have to lose that label
--   first.
-- console: >-
--   In Secrets Manager open the secret, tab "Rotation": see the last and the next rotation, then choose "Rotate secret
--   immediately" after the cause is mended.
-- cli: |-
--   aws secretsmanager describe-secret --secret-id SECRET_ARN
--   aws secretsmanager rotate-secret --secret-id SECRET_ARN
-- terraform: >-
--   Terraform cannot tell whether a rotation worked; aws_secretsmanager_secret_rotation only sets the schedule.
-- parameters:
--   days:
--     default: "90"
--     about: >-
--       After how many days without a rotation a secret fails, whatever its own schedule.
--   grace_days:
--     default: "2"
--     about: >-
--       How many days a planned rotation may be late.
WITH asked AS (
  SELECT CAST(max(started_at) AS DATE) AS today FROM runs
), secret AS (
  SELECT r.*, a.today, (r.details ->> 'last_rotated') AS reported,
    try_cast(left((r.details ->> 'last_rotated'), 10) AS DATE) AS rotated_on,
    try_cast(left((r.details ->> 'next_rotation'), 10) AS DATE) AS due_on,
    try_cast((r.details ->> 'rotation_days') AS INTEGER) AS every_days
  FROM internal.secrets r CROSS JOIN asked a
), evaluated AS (
  SELECT s.*,
    s.due_on < s.today - CAST($grace_days AS INTEGER) AS missed,
    s.rotated_on + s.every_days < s.today - CAST($grace_days AS INTEGER) AS late,
    s.rotated_on < s.today - CAST($days AS INTEGER) AS old
  FROM secret s
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL OR s.primary_region IS NOT NULL THEN 'not_applicable'
    WHEN s.details IS NOT NULL AND coalesce((s.details ->> 'rotation_enabled'), 'false') = 'false' THEN 'not_applicable'
    WHEN s.reported IS NULL AND s.missed IS NOT TRUE THEN 'unknown'
    WHEN s.rotated_on IS NULL AND s.due_on IS NULL THEN 'unknown'
    WHEN s.missed THEN 'fail'
    WHEN s.late THEN 'fail'
    WHEN s.old THEN 'fail'
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
    WHEN s.reported IS NULL AND s.missed IS NOT TRUE THEN 'It was not told when it last rotated.'
    WHEN s.rotated_on IS NULL AND s.due_on IS NULL THEN 'It has never rotated, and it was not told when it will.'
    WHEN s.missed THEN 'It should have rotated by ' || strftime(s.due_on, '%Y-%m-%d')
      || coalesce('; it last did on ' || strftime(s.rotated_on, '%Y-%m-%d'), ' and never did') || '.'
    WHEN s.late THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d') || ', although it is to rotate every '
      || s.every_days || ' days.'
    WHEN s.old THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d') || ', longer ago than ' || $days
      || ' days.'
    WHEN s.rotated_on IS NOT NULL THEN 'It last rotated on ' || strftime(s.rotated_on, '%Y-%m-%d')
      || coalesce(', next by ' || strftime(s.due_on, '%Y-%m-%d'), '') || '.'
    WHEN s.due_on IS NOT NULL THEN 'Its first rotation is planned by ' || strftime(s.due_on, '%Y-%m-%d') || '.'
    ELSE 'When it last rotated is not known to this rule: ' || s.reported || '.'
  END || s.stale_note AS reason
FROM evaluated s
