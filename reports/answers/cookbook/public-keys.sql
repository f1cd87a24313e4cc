-- title: Keys that anyone can use
-- topic: access
-- question: >-
--   Which keys can anyone use, directly or through an AWS service?
-- answer: >-
--   Keys with a statement that allows every AWS principal (public), or everyone who calls through an AWS service
--   (public_via_service).
SELECT p.access, k.account_name, k.region, k.alias, k.state, p.source_id AS statement, v.operations,
  k.dependent_resources, k.key_arn
FROM internal.access_paths p
JOIN internal.access_verdicts v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
JOIN keys k ON k.key_arn = p.key_arn
WHERE p.access IN ('public', 'public_via_service')
ORDER BY p.access, k.dependent_resources DESC, k.key_arn, p.source_id
