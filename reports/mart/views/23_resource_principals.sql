-- The principals named in the resource policies of secrets. A named principal does not necessarily have access.
--: resource_arn | The resource.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: statement_index | The index of the statement in the policy, from 0.
--: statement | The statement's Sid, or # and its index.
--: effect | Allow or Deny.
--: principal | The principal as written; * for everyone, and for everyone except the principals of a NotPrincipal.
--: principal_type | account, role, user, session, federated, service, public, deleted, canonical or unknown.
--: principal_account | The account of the principal, if it has one.
--: party | own_account, own_organization, known_party, external_account, aws_service, public, deleted_principal or unknown.
--: party_name | The name of the account or party, or the service.
--: actions | The actions as written.
--: not_actions | Whether the actions come from NotAction: all actions except these.
--: condition_keys | The condition keys that restrict it.
--: since | When this policy was first seen on the resource.
SELECT p.resource_arn, s.account_id, s.region, s.name, t.statement_index, t.name AS statement, t.effect, n.principal,
  n.type AS principal_type, n.account AS principal_account,
  internal.party_of(n.type, n.account, n.organization, s.account_id, own.organization_id, o.in_organization, o.is_party) AS party,
  CASE WHEN n.type = 'service' THEN n.principal ELSE coalesce(o.name, n.organization) END AS party_name,
  t.actions, t.not_actions, t.condition_keys, r.started_at AS since
FROM internal.resource_policy p
JOIN internal.resource s ON s.resource_arn = p.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
JOIN internal.policy_principal n ON n.policy_hash = p.policy_hash
JOIN internal.policy_statement t ON t.policy_hash = n.policy_hash AND t.statement_index = n.statement_index
LEFT JOIN internal.run own ON own.run_id = as_of_run
LEFT JOIN internal.account_names_as_of(as_of_run) o ON o.account_id = n.account
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
