-- Deleted keys by ARN, ID or former alias (`names`).
WITH closed AS (
  SELECT key_arn, key_id, account_id, region, max(valid_to) AS run_id FROM internal.key
  WHERE valid_from <= $run GROUP BY ALL HAVING bool_and(valid_to IS NOT NULL AND valid_to <= $run)
), aliased AS (
  SELECT target_key_arn AS key_arn, alias_name, valid_from FROM internal.alias
  WHERE valid_from <= $run AND target_key_arn IS NOT NULL
), deleted AS (
  SELECT c.key_arn, c.key_id, c.account_id, c.region, arg_max(a.alias_name, a.valid_from) AS key_alias,
    list(a.alias_name ORDER BY a.alias_name) AS aliases, any_value(r.started_at) AS since
  FROM closed c
  LEFT JOIN aliased a ON a.key_arn = c.key_arn
  LEFT JOIN internal.run r ON r.run_id = c.run_id
  GROUP BY c.key_arn, c.key_id, c.account_id, c.region
)
SELECT key_arn, key_id, account_id, region, key_alias, aliases, since FROM deleted
WHERE list_contains($names, key_arn) OR list_contains($names, key_id) OR list_has_any($names, coalesce(aliases, []))
ORDER BY key_arn
