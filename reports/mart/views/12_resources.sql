-- The resources that can be encrypted with a key.
--! stored
--: resource_arn | The resource's ARN.
--: resource_type | The CloudFormation type name.
--: service | The service, as in the ARN.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: name | Its name.
--: status | The status, as the service reports it.
--: encryption | The encryption, as the service reports it.
--: created_at | When it was created.
--: deletion_at | When its deletion was requested or is due.
--: details | Additional fields, as JSON.
--: freshness | current, or stale: the run could not list the resource again.
--: since | When this version of it was first seen.
SELECT s.resource_arn, s.resource_type,
  CASE WHEN starts_with(s.resource_arn, 'arn:') THEN split_part(s.resource_arn, ':', 3)
    ELSE lower(split_part(s.resource_type, '::', 2)) END AS service,
  s.account_id, c.name AS account_name, s.region, s.name, s.status, s.encryption, s.created_at, s.deletion_at, s.details,
  f.freshness,
  r.started_at AS since
FROM internal.resource s
JOIN internal.resource_reads_as_of(as_of_run) f ON f.resource_arn = s.resource_arn
LEFT JOIN internal.account c ON c.account_id = s.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = s.valid_from
WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
