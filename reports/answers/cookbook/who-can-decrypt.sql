-- title: Who can decrypt with a key
-- topic: access
-- question: >-
--   Who can decrypt with this key, now or on a date?
-- answer: >-
--   Every way to Decrypt, with what narrows it left to key_access; with --as-of the answer is that of an earlier
--   night. owner_delegated means that IAM policies of the key's account decide (kmsledger who-can reads them);
--   unknown says why it is not known.
-- parameters:
--   key: {about: "the key: its ARN, its id or one of its aliases (alias/orders)"}
WITH asked AS (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key)
)
SELECT p.access, p.principal, p.party, p.path, p.source_id, p.reason, p.alternative_paths, p.key_arn
FROM internal.access_paths p
LEFT JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
WHERE p.key_arn IN (FROM asked) AND (p.access = 'unknown' OR list_contains(v.operations, 'kms:Decrypt'))
ORDER BY p.access, p.principal, p.source_id, p.key_arn
