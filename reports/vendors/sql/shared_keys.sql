-- Keys, including deleted ones, in `accounts` (none: all) whose current or an earlier policy allowed `vendor_account` anything.
SELECT DISTINCT p.key_arn FROM internal.key_policy p
JOIN internal.policy_principal n ON n.policy_hash = p.policy_hash
JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
WHERE n.account = $vendor_account AND s.effect = 'Allow' AND p.valid_from <= $run
  AND (len($accounts) = 0 OR list_contains($accounts, split_part(p.key_arn, ':', 5)))
