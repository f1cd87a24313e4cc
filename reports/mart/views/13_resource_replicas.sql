-- The replicas of resources in other regions, as their primaries report them: those of secrets.
--: resource_arn | The primary.
--: account_id | Its account.
--: region | The region of the primary.
--: name | Its name.
--: replica_region | The region of the replica.
--: status | InSync, InProgress, Failed ... A failed replica does not exist.
--: status_message | The cause of a failure, as the service reports it.
--: raw_key | The key of the replica, as the service reports it: an ARN, ID or alias in the region of the replica.
--: since | When this version was first seen.
SELECT p.resource_arn, s.account_id, s.region, s.name, p.replica_region, p.status, p.status_message, p.raw_key,
  r.started_at AS since
FROM internal.resource_replica p
JOIN internal.resource s ON s.resource_arn = p.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
