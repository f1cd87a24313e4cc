-- What the owner of a key policy would want to know about it; whether anyone gets in by it is in key_access.
--: key_arn | The key.
--: key_alias | Its first alias.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: code | What it is about, as a word for filters.
--: statement | The statement's Sid or # and its position (from 0); empty when it is about the whole policy.
--: statement_index | The statement's position in the policy, from 0.
--: message | What is wrong.
--: since | When this policy was first seen on the key.
SELECT a.key_arn, k.alias AS key_alias, k.account_id, k.account_name, k.region, h.code, h.source_id AS statement, h.statement_index,
  h.message, r.started_at AS since
FROM internal.key_analysis a
JOIN internal.policy_lint h ON h.analysis_id = a.analysis_id
JOIN keys_as_of(as_of_run) k ON k.key_arn = a.key_arn
LEFT JOIN internal.run r ON r.run_id = a.valid_from
WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
