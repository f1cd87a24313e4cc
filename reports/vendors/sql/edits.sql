-- Edits of the protected keys `arns` in the last `days` before the run.
SELECT 'protected_key_edited' AS check_name, 'critical' AS severity,
  'A key that must stay unchanged for the vendor was edited: ' || c.message AS reason,
  'Restore the previous state, unless the change was planned with ' || $vendor || '.' AS fix,
  'before: ' || coalesce(nullif(c.before, ''), 'nothing') || chr(10) || 'after: ' || coalesce(nullif(c.after, ''), 'nothing') AS evidence,
  c.occurred_at AS since, k.key_arn, k.account_id, k.account_name, k.region, k.alias AS key_alias
FROM changes c JOIN keys k ON k.key_arn = c.key_arn
WHERE c.key_arn IN (SELECT unnest($arns)) AND c.resource_arn IS NULL
  AND c.occurred_at >= (SELECT started_at FROM internal.run WHERE run_id = $run) - to_days($days::INTEGER)
  AND regexp_matches(c.event_type, '^(key_state|deletion_|metadata_|policy_|tag_|alias_|grant_|key_gone)')
ORDER BY c.key_arn, c.run_id DESC, c.event_type
