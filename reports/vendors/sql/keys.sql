-- The customer managed keys `arns`; if that is NULL, those of `accounts`.
SELECT k.key_arn, k.key_id, k.account_id, k.account_name, k.region, k.alias, k.aliases, k.state, k.key_spec, k.key_usage,
  k.origin, k.deletion_date, k.tags, p.policy_hash,
  CASE WHEN k.freshness = 'stale' OR (k.policy_known AND list_contains(k.denied_actions, 'kms:GetKeyPolicy'))
      OR (k.tags IS NOT NULL AND list_contains(k.denied_actions, 'kms:ListResourceTags'))
    THEN 'stale' ELSE 'current' END AS freshness,
  r.started_at AS policy_since
FROM keys k
LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, $run)
LEFT JOIN internal.run r ON r.run_id = p.valid_from
WHERE k.manager IS DISTINCT FROM 'AWS'
  AND if($arns IS NULL, list_contains($accounts, k.account_id), list_contains($arns, k.key_arn))
ORDER BY k.account_id, k.region, k.alias, k.key_arn
