-- title: Keys that a vendor can decrypt with
-- topic: access
-- question: >-
--   Which keys can this vendor decrypt with, and since when?
-- answer: >-
--   Every access path for Decrypt: a statement of the key policy, or a grant. The IAM policies of the vendor's own
--   account must allow it too. since is the start of the run that first saw the access; the access may be older than
--   the first run.
-- parameters:
--   vendor: {description: "the party's name in the settings or the built-in vendor catalog (Checkmarx), or its account ID"}
SELECT p.party, p.access, p.principal, k.account_name, k.region, k.alias, p.path, p.source_id, r.started_at AS since,
  k.dependent_resources AS dependent_count, k.key_arn
FROM internal.access_paths p
JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
JOIN keys k ON k.key_arn = p.key_arn
LEFT JOIN runs r ON r.run_id = p.since_run
WHERE p.access IN ('vendor', 'external') AND $vendor IN (p.party, p.principal_account)
  AND list_contains(v.operations, 'kms:Decrypt')
ORDER BY k.account_name, k.region, k.alias, p.source_id, k.key_arn
