-- The key policies.
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: policy | The policy as canonical JSON: equal policies have equal texts. The text as received if it is not JSON.
--: received | The policy as AWS returned it when it was first seen.
--: statements | The number of its statements.
--: readable | Whether every part of it could be parsed.
--: since | When this policy was first seen on the key.
SELECT p.key_arn, k.account_id, k.region, d.canonical AS policy, d.received, x.statements, x.readable,
  r.started_at AS since
FROM internal.key_policy p
JOIN internal.key k ON k.key_arn = p.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
JOIN internal.policy_document d USING (policy_hash)
JOIN internal.policy x USING (policy_hash)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
