-- The grants on keys.
--: key_arn | The key.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: grant_id | The grant ID.
--: name | The name of the grant.
--: grantee | The principal or service that may use the key.
--: grantee_principal | The grantee, if it is a principal.
--: grantee_service_principal | The grantee, if it is a service.
--: retiring_principal | The principal that may retire the grant.
--: retiring_service_principal | The service that may retire the grant.
--: issuing_account | The account that issued it.
--: operations | The operations the grantee may perform.
--: for_service | Whether an AWS service is the grantee, may retire the grant, or uses it for a resource of its own. Services create and retire such grants.
--: constraints | The constraints (encryption context, source ARN), as JSON.
--: created_at | When it was created.
--: since | When this version of it was first seen.
SELECT g.key_arn, k.account_id, c.name AS account_name, k.region, g.grant_id, g.name,
  coalesce(g.grantee_service_principal, g.grantee_principal) AS grantee,
  g.grantee_principal, g.grantee_service_principal, g.retiring_principal, g.retiring_service_principal,
  g.issuing_account, CAST(CAST(g.operations AS JSON) AS VARCHAR[]) AS operations,
  g.grantee_service_principal IS NOT NULL OR g.retiring_service_principal IS NOT NULL
    OR n.type IS NOT DISTINCT FROM 'service' OR regexp_matches(coalesce(g.retiring_principal, ''), '^[a-z0-9.-]+\.amazonaws\.')
    OR regexp_matches(coalesce(g.grantee_principal, ''), ':(role/aws-service-role/|assumed-role/(aws:|AWSServiceRole))')
    OR contains(coalesce(g.constraints, ''), '"aws:') AS for_service,
  g.constraints, g.created_at, r.started_at AS since
FROM internal.key_grant g
JOIN internal.key k ON k.key_arn = g.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
LEFT JOIN internal.principal_dim n ON n.principal = g.grantee_principal
LEFT JOIN internal.account c ON c.account_id = k.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = g.valid_from
WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
