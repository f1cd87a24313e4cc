-- What the owner of a key policy would want to know about it; whether anyone gets in by it is in key_access.
--: key_arn | The key.
--: key_alias | Its first alias.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: code | What it is about, as a word for filters.
--: statement | The statement's Sid or # and its position (from 0); empty when it is about the whole policy.
--: position | The statement's position in the policy, from 0.
--: sentence | What is wrong.
--: since | When this policy was first seen on the key.
SELECT a.key_arn, k.alias AS key_alias, k.account_id, k.account_name, k.region, h.code, h.via AS statement, h.position,
  h.sentence, r.started_at AS since
FROM ledger.key_analysis a
JOIN ledger.access_hygiene h ON h.analysis_id = a.analysis_id
JOIN keys_as_of(as_of_run) k ON k.key_arn = a.key_arn
LEFT JOIN ledger.run r ON r.run_id = a.valid_from
WHERE ledger.known(a.valid_from, a.valid_to, as_of_run)
