-- The secrets, with why one is not for the customer to take care of.
--! internal
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: not_applicable_reason | Why nobody has to take care of it, as a sentence: it is about to be deleted, or a service owns it. Empty otherwise.
--: primary_region | The region of the secret that it is a replica of; empty when it is none, or nothing was told of it.
--: details | As in resources: rotation_enabled, rotation_days, last_rotated, last_accessed ...; empty when nothing was told of it.
--: created_at | When it was created.
--: deletion_at | When it will be deleted.
--: freshness | yes, or last known: the run could not see it again.
--: stale_note | A sentence to put behind an answer, when it is the last known one. Empty text otherwise.
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
