-- title: What a vendor can decrypt
-- topic: access
-- question: >-
--   Which keys can this vendor decrypt with, and since when?
-- answer: >-
--   Every way by which the party can decrypt: through a statement of the key's policy, or a grant. IAM policies of
--   the vendor's own account have to allow it as well. since is the run that first saw the access; it may be older
--   than the first run.
-- parameters:
--   vendor: {about: "the party's name in the settings or our catalogue (Checkmarx), or its account id"}
SELECT p.party, p.access, p.principal, k.account_name, k.region, k.alias, p.path, p.source_id, r.started_at AS since,
  k.dependent_resources AS dependent_count, k.key_arn
FROM internal.access_paths p
JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
JOIN keys k ON k.key_arn = p.key_arn
LEFT JOIN runs r ON r.run_id = p.since_run
WHERE p.access IN ('vendor', 'external') AND $vendor IN (p.party, p.principal_account)
  AND list_contains(v.operations, 'kms:Decrypt')
ORDER BY k.account_name, k.region, k.alias, p.source_id, k.key_arn
