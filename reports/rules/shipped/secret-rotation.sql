-- id: secret-rotation
-- title: Secrets are rotated automatically
-- severity: medium
-- family: secrets
-- why: >-
--   A password that never changes stays valid for everyone who ever saw it: in a log, in a shell history, in the notes
--   of a former colleague. Automatic rotation ends that without manual work.
-- fix: >-
--   Configure a rotation function and a schedule. The first rotation starts immediately unless you postpone it, so
--   first make sure that every application reads the secret from Secrets Manager and does not keep its own copy; an
--   application that caches the secret fails until it reads it again.
-- console: >-
--   In Secrets Manager, open the secret, tab "Rotation", choose "Edit rotation", turn on automatic rotation, and choose
--   the schedule and the Lambda function.
-- cli: |-
--   aws secretsmanager rotate-secret --secret-id SECRET_ARN --rotation-lambda-arn FUNCTION_ARN  \
--     --rotation-rules AutomaticallyAfterDays=30
-- terraform: >-
--   Add an aws_secretsmanager_secret_rotation with secret_id, rotation_lambda_arn and rotation_rules {
--   automatically_after_days = 30 }.
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL OR s.primary_region IS NOT NULL THEN 'not_applicable'
    WHEN s.details IS NULL THEN 'unknown'
    WHEN coalesce((s.details ->> 'rotation_enabled'), 'false') = 'false' THEN 'fail'
    WHEN (s.details ->> 'rotation_enabled') = 'true' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN s.not_applicable_reason
    WHEN s.primary_region IS NOT NULL
      THEN 'It is a replica of the secret in ' || s.primary_region || ', where it is evaluated.'
    WHEN s.details IS NULL THEN 'Could not determine whether it rotates: no details were reported.'
    WHEN coalesce((s.details ->> 'rotation_enabled'), 'false') = 'false'
      THEN CASE WHEN (s.details ->> 'rotation_enabled') IS NULL
      THEN 'Rotation was never set up.' ELSE 'Automatic rotation is disabled.' END
    WHEN (s.details ->> 'rotation_enabled') = 'true'
      THEN 'It rotates' || coalesce(' every ' || (s.details ->> 'rotation_days') || ' days',
      ' on the schedule ' || (s.details ->> 'rotation_schedule'), '') || '.'
    ELSE 'This rule does not recognize its rotation status.'
  END || s.stale_note AS reason
FROM internal.secrets s
