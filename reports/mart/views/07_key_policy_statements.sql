-- The statements of key policies.
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: statement_index | The index of the statement in the policy, from 0.
--: sid | Its Sid.
--: effect | Allow or Deny.
--: principal_kind | Principal or NotPrincipal (everyone except the listed principals).
--: principals | The principals as written.
--: actions | The actions as written.
--: not_actions | Whether the actions come from NotAction: all actions except these.
--: resources | The resources as written; * is the key itself.
--: has_resource | Whether it has a Resource element; without it, a key policy statement has no effect.
--: conditions | The conditions as JSON.
--: since | When this policy was first seen on the key.
SELECT p.key_arn, k.account_id, k.region, s.statement_index, s.sid, s.effect, s.principal_kind, s.principals, s.actions,
  s.not_actions, s.resources, s.has_resource, s.conditions, r.started_at AS since
FROM internal.key_policy p
JOIN internal.key k ON k.key_arn = p.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
JOIN internal.policy_statement s USING (policy_hash)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
