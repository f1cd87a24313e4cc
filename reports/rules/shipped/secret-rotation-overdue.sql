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
WITH secret AS (
  SELECT s.*, (s.details ->> 'last_rotated') AS last_rotated,
    try_cast(left(last_rotated, 10) AS DATE) AS rotated_on,
    try_cast(left((s.details ->> 'next_rotation'), 10) AS DATE) AS due_on,
    try_cast((s.details ->> 'rotation_days') AS INTEGER) AS every_days,
    CAST(r.started_at AS DATE) AS today,
    due_on < today - CAST($grace_days AS INTEGER) AS missed,
    rotated_on + every_days < today - CAST($grace_days AS INTEGER) AS late,
    rotated_on < today - CAST($days AS INTEGER) AS expired
  FROM internal.secrets s
  CROSS JOIN internal.latest_run r
)
SELECT resource_arn, account_id, region, NULL AS key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    WHEN primary_region IS NOT NULL
      THEN not_applicable('It is a replica of the secret in ' || primary_region || ', where it is evaluated.')
    WHEN details IS NOT NULL AND coalesce((details ->> 'rotation_enabled'), 'false') = 'false'
      THEN not_applicable('It does not rotate automatically.')
    WHEN last_rotated IS NULL AND missed IS NOT TRUE THEN unknown('Secrets Manager did not report when it last rotated.')
    WHEN rotated_on IS NULL AND due_on IS NULL
      THEN unknown('It has never rotated, and Secrets Manager did not report when it will.')
    WHEN missed THEN fail('It should have rotated by ' || strftime(due_on, '%Y-%m-%d')
      || coalesce('; it last rotated on ' || strftime(rotated_on, '%Y-%m-%d'), ', but has never rotated') || '.')
    WHEN late THEN fail('It last rotated on ' || strftime(rotated_on, '%Y-%m-%d') || ', although its schedule is '
      || rotation_interval || '.')
    WHEN expired THEN fail('It last rotated on ' || strftime(rotated_on, '%Y-%m-%d') || ', more than ' || $days || ' days ago.')
    WHEN rotated_on IS NOT NULL THEN pass('It last rotated on ' || strftime(rotated_on, '%Y-%m-%d')
      || coalesce(', next by ' || strftime(due_on, '%Y-%m-%d'), '') || '.')
    WHEN due_on IS NOT NULL THEN pass('Its first rotation is scheduled by ' || strftime(due_on, '%Y-%m-%d') || '.')
  END AS verdict
FROM secret
