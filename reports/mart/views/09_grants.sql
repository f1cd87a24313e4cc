-- The grants on keys.
--: key_arn | The key.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: grant_id | The grant's id.
--: name | Its name.
--: grantee | Who may use the key: a principal or a service.
--: grantee_principal | The grantee, where it is a principal.
--: grantee_service_principal | The grantee, where it is a service.
--: retiring_principal | Who may retire the grant.
--: retiring_service_principal | The service that may retire it.
--: issuing_account | The account that issued it.
--: operations | What the grantee may do.
--: for_service | Whether an AWS service holds it, may retire it, or uses it for a resource of its own: services make such grants and retire them.
--: constraints | What narrows it: encryption context, source ARN; as JSON.
--: created_at | When it was created.
--: since | When it was first seen as it is.
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
