-- The policy lint results of key policies: weak or ineffective statements, regardless of whether anyone has access through them.
--: key_arn | The key.
--: key_alias | The first alias of the key.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: code | The type of the problem, for filters.
--: statement | The statement's Sid, or # and its index (from 0); empty for a problem of the whole policy.
--: statement_index | The index of the statement in the policy, from 0.
--: message | The problem in words.
--: since | When this policy was first seen on the key.
SELECT a.key_arn, k.alias AS key_alias, k.account_id, k.account_name, k.region, h.code, h.source_id AS statement, h.statement_index,
  h.message, r.started_at AS since
FROM internal.key_analysis a
JOIN internal.policy_lint h ON h.analysis_id = a.analysis_id
JOIN keys_as_of(as_of_run) k ON k.key_arn = a.key_arn
LEFT JOIN internal.run r ON r.run_id = a.valid_from
WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
