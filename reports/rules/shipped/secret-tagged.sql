-- id: secret-tagged
-- title: Secrets have the tags that say whose they are
-- severity: low
-- family: secrets
-- why: >-
--   When a secret leaks or its rotation fails, the first question is whose it is. A tag answers it at any hour; a name
--   rarely does. Tags also carry permissions, where policies decide by them.
-- fix: >-
--   Add the tags. Tags that permissions depend on (aws:ResourceTag) take effect at once, so look at the policies first.
--   Give tags to whole stacks at their source, or the next deployment may remove them.
-- console: >-
--   In Secrets Manager open the secret, tab "Tags", choose "Edit tags".
-- cli: >-
--   aws secretsmanager tag-resource --secret-id SECRET_ARN --tags Key=Owner,Value=TEAM
-- terraform: >-
--   Set tags in the aws_secretsmanager_secret, or default_tags in the provider.
-- parameters:
--   tags:
--     default: ""
--     about: >-
--       The tag keys that every secret needs, separated by commas; empty: at least one tag.
WITH expected AS (
  SELECT list_filter(list_transform(string_split($tags, ','), lambda one: trim(one)), lambda one: one <> '') AS names
), reported AS (
  SELECT resource_arn, list(tag_key) FILTER (NOT starts_with(tag_key, 'aws:')) AS names
  FROM resource_tags
  GROUP BY resource_arn
), secret AS (
  SELECT r.*, len(w.names) AS asked, len(coalesce(t.names, [])) AS tags,
    array_to_string(list_filter(w.names, lambda one: NOT list_contains(coalesce(t.names, []), one)), ', ') AS missing
  FROM internal.secrets r
  CROSS JOIN expected w
  LEFT JOIN reported t ON t.resource_arn = r.resource_arn
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN 'not_applicable'
    WHEN s.asked = 0 AND s.tags = 0 THEN 'fail'
    WHEN s.missing <> '' THEN 'fail'
    WHEN s.asked = 0 AND s.tags > 0 THEN 'pass'
    WHEN s.missing = '' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.not_applicable_reason IS NOT NULL THEN s.not_applicable_reason
    WHEN s.asked = 0 AND s.tags = 0 THEN 'It has no tags.'
    WHEN s.missing <> '' THEN 'These tags are missing: ' || s.missing || '.'
    WHEN s.asked = 0 AND s.tags > 0 THEN 'It has ' || s.tags || ' tag(s).'
    WHEN s.missing = '' THEN 'It has the tags ' || $tags || '.'
    ELSE 'Its tags are not known.'
  END || s.stale_note AS reason
FROM secret s
