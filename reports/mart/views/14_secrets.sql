-- The secrets, with the reason why a secret is not the customer's responsibility.
--! internal
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: not_applicable_reason | Why nobody has to maintain the secret: it is about to be deleted, or a service owns it; NULL otherwise.
--: owner_fix | The service that owns the secret, and how that service changes its key, as sentences to append to a reason; empty text for other secrets.
--: rotation_interval | How often it rotates, in words: every 4 hours, on the schedule cron(...); NULL if that is unknown.
--: primary_region | The region of the primary secret of a replica; NULL if it is not a replica, or if that is unknown.
--: details | As in resources: rotation_enabled, rotation_days, last_rotated, last_accessed ...; NULL if unknown.
--: created_at | When it was created.
--: deletion_at | When it will be deleted.
--: freshness | current, or stale: the run could not read the secret again.
--: stale_note | A sentence to append to a reason if the data is stale; empty text otherwise.
SELECT resource_arn, account_id, region, name,
  CASE
    WHEN deletion_at IS NOT NULL THEN 'The secret is about to be deleted: nobody can read it.'
    WHEN (details ->> 'owning_service') IS NOT NULL
      THEN 'The service ' || (details ->> 'owning_service') || ' owns this secret and takes care of it.'
  END AS not_applicable_reason,
  coalesce(' The service ' || (details ->> 'owning_service') || ' owns this secret: ' || CASE details ->> 'owning_service'
    WHEN 'rds' THEN 'set MasterUserSecretKmsKeyId of the database or cluster.'
    WHEN 'redshift' THEN 'set MasterPasswordSecretKmsKeyId of the cluster.'
    WHEN 'events' THEN 'set KmsKeyIdentifier of the EventBridge connection.'
    WHEN 'appflow' THEN 'create its connector profile again, with the key as kmsArn.'
    ELSE 'only that service can change its key.' END, '') AS owner_fix,
  -- Secrets Manager also returns whole days for a schedule in hours.
  coalesce(
    CASE WHEN starts_with(schedule, 'rate(')
      THEN 'every ' || regexp_replace(trim(schedule[6:-2]), '^1 ', '') ELSE 'on the schedule ' || schedule END,
    'every ' || CASE rotation_days WHEN '1' THEN 'day' ELSE rotation_days || ' days' END) AS rotation_interval,
  CASE WHEN (details ->> 'primary_region') <> region THEN details ->> 'primary_region' END AS primary_region,
  details, created_at, deletion_at, freshness,
  CASE WHEN freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM (
  SELECT *, details ->> 'rotation_schedule' AS schedule, details ->> 'rotation_days' AS rotation_days
  FROM resources_as_of(as_of_run)
)
WHERE resource_type = 'AWS::SecretsManager::Secret'
