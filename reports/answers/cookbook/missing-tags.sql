-- title: Keys without an owner tag
-- topic: posture
-- question: >-
--   Which keys have no Owner tag?
-- answer: >-
--   Customer managed keys without the tag, the keys in use first. Keys whose tags could not be read are listed as
--   unknown: they may have the tag.
-- parameters:
--   tag: {default: "Owner", description: "the tag key (case-sensitive)"}
SELECT CASE WHEN tags IS NULL THEN 'unknown' ELSE 'missing' END AS tag, account_name, region, alias, description,
  dependent_resources, created_at, key_arn
FROM keys
WHERE manager IS DISTINCT FROM 'AWS' AND coalesce(state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
  AND (tags IS NULL OR NOT list_contains(map_keys(tags), $tag))
ORDER BY tag, dependent_resources DESC, account_name, key_arn
