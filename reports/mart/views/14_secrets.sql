-- The secrets, with the reason why a secret is not the customer's responsibility.
--! internal
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: not_applicable_reason | Why nobody has to maintain the secret: it is about to be deleted, or a service owns it; NULL otherwise.
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
  CASE WHEN (details ->> 'primary_region') <> region THEN details ->> 'primary_region' END AS primary_region,
  details, created_at, deletion_at, freshness,
  CASE WHEN freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM resources_as_of(as_of_run)
WHERE resource_type = 'AWS::SecretsManager::Secret'
