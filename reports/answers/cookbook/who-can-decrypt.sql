-- title: Who can decrypt with a key
-- topic: access
-- question: >-
--   Who can decrypt with this key, now or on a date?
-- answer: >-
--   Every access path for Decrypt, without its conditions (see kmsledger who-can); with --as-of, as of an earlier
--   run. owner_delegated means that IAM policies of the key's account decide (kmsledger who-can evaluates them); for
--   unknown access, reason has the cause.
-- parameters:
--   key: {description: "the key's ARN, ID or alias (alias/orders)"}
WITH requested AS (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key)
)
SELECT p.access, p.principal, p.party, p.path, p.source_id, p.reason, p.alternative_paths, p.key_arn
FROM internal.access_paths p
LEFT JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
WHERE p.key_arn IN (FROM requested) AND (p.access = 'unknown' OR list_contains(v.operations, 'kms:Decrypt'))
ORDER BY p.access, p.principal, p.source_id, p.key_arn
