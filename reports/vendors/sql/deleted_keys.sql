-- Deleted keys by ARN, ID or former alias (`names`), in `accounts` (none: all); `days` limits how long ago (NULL: any time).
WITH closed AS (
  SELECT key_arn, key_id, account_id, region, max(valid_to) AS run_id FROM internal.key
  WHERE valid_from <= $run GROUP BY ALL HAVING bool_and(valid_to IS NOT NULL AND valid_to <= $run)
), aliased AS (
  SELECT target_key_arn AS key_arn, alias_name, valid_from FROM internal.alias
  WHERE valid_from <= $run AND target_key_arn IS NOT NULL
), deleted AS (
  SELECT c.key_arn, c.key_id, c.account_id, c.region, arg_max(a.alias_name, a.valid_from) AS key_alias,
    list(a.alias_name) AS aliases, any_value(r.started_at) AS since
  FROM closed c
  LEFT JOIN aliased a ON a.key_arn = c.key_arn
  LEFT JOIN internal.run r ON r.run_id = c.run_id
  GROUP BY c.key_arn, c.key_id, c.account_id, c.region
)
SELECT key_arn, key_id, account_id, region, key_alias, aliases, since FROM deleted
WHERE (list_contains($names, key_arn) OR list_contains($names, key_id) OR list_has_any($names, coalesce(aliases, [])))
  AND (len($accounts) = 0 OR list_contains($accounts, account_id))
  AND ($days IS NULL OR since > (SELECT started_at FROM internal.run WHERE run_id = $run) - to_days($days::INTEGER + 1))
ORDER BY key_arn
