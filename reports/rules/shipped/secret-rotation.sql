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
SELECT resource_arn, account_id, region, NULL AS key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    WHEN primary_region IS NOT NULL
      THEN not_applicable('It is a replica of the secret in ' || primary_region || ', where it is evaluated.')
    WHEN details IS NULL THEN unknown('Could not determine whether it rotates: no details were reported.')
    WHEN (details ->> 'rotation_enabled') IS NULL THEN fail('Rotation was never set up.')
    WHEN (details ->> 'rotation_enabled') = 'false' THEN fail('Automatic rotation is disabled.')
    WHEN (details ->> 'rotation_enabled') = 'true' THEN pass('It rotates' || coalesce(' ' || rotation_interval, '') || '.')
    ELSE unknown('This rule does not recognize its rotation status.')
  END AS verdict
FROM internal.secrets
