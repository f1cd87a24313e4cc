-- The principals named in key policies, and the grantees of grants. A named principal does not necessarily have access.
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: source | policy or grant.
--: source_id | The statement's Sid, or # and its index; or the grant ID.
--: effect | Allow or Deny.
--: principal | The principal as written; * for everyone, and for everyone except the principals of a NotPrincipal.
--: principal_type | account, role, user, session, federated, service, public, deleted, canonical or unknown.
--: principal_account | The account of the principal, if it has one.
--: party | own_account, own_organization, known_party, external_account, aws_service, public, deleted_principal or unknown.
--: party_name | The name of the account or party, or the service.
--: actions | The allowed or denied actions, as written.
--: condition_keys | The condition keys or grant constraints that restrict it.
--: since | When this policy or grant was first seen.
WITH written AS (
  SELECT p.key_arn, p.valid_from, 'policy' AS source, s.name AS source_id, s.effect, n.principal, n.type, n.account,
    n.organization, s.actions, s.condition_keys
  FROM internal.key_policy p
  JOIN internal.policy_principal n USING (policy_hash)
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
  UNION ALL
  SELECT g.key_arn, g.valid_from, 'grant', g.grant_id, 'Allow',
    coalesce(g.grantee_service_principal, g.grantee_principal),
    CASE WHEN g.grantee_service_principal IS NOT NULL THEN 'service' ELSE coalesce(n.type, 'unknown') END,
    CASE WHEN g.grantee_service_principal IS NULL THEN n.account END, NULL,
    list_transform(CAST(CAST(g.operations AS JSON) AS VARCHAR[]), lambda operation: 'kms:' || operation),
    coalesce(json_keys(g.constraints), CAST([] AS VARCHAR[]))
  FROM internal.key_grant g
  LEFT JOIN internal.principal_dim n ON n.principal = g.grantee_principal
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
)
SELECT w.key_arn, k.account_id, k.region, w.source, w.source_id, w.effect, w.principal,
  w.type AS principal_type, w.account AS principal_account,
  internal.party_of(w.type, w.account, w.organization, k.account_id, own.organization_id, o.in_organization, o.is_party) AS party,
  CASE WHEN w.type = 'service' THEN w.principal ELSE coalesce(o.name, w.organization) END AS party_name,
  w.actions, w.condition_keys, r.started_at AS since
FROM written w
JOIN internal.key k ON k.key_arn = w.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
LEFT JOIN internal.run own ON own.run_id = as_of_run
LEFT JOIN internal.account_names_as_of(as_of_run) o ON o.account_id = w.account
LEFT JOIN internal.run r ON r.run_id = w.valid_from
