-- id: secret-tagged
-- title: Secrets have tags that identify their owner
-- severity: low
-- family: secrets
-- why: >-
--   When a secret leaks or its rotation fails, the first question is who owns it. A tag answers that at any time; a
--   name rarely does. Policies can also use tags to control access.
-- fix: >-
--   Add the tags. Tags that permissions depend on (aws:ResourceTag) take effect immediately, so check the policies
--   first. Tag whole stacks at their source; otherwise the next deployment may remove the tags.
-- console: >-
--   In Secrets Manager, open the secret, tab "Tags", choose "Edit tags".
-- cli: >-
--   aws secretsmanager tag-resource --secret-id SECRET_ARN --tags Key=Owner,Value=TEAM
-- terraform: >-
--   Set tags in aws_secretsmanager_secret, or default_tags in the provider.
-- parameters:
--   tags:
--     default: ""
--     about: >-
--       Comma-separated list of required tag keys; if empty, at least one tag is required.
WITH expected AS (
  SELECT list_filter(list_transform(string_split($tags, ','), lambda tag_name: trim(tag_name)), lambda tag_name: tag_name <> '')
    AS names
), secret_tags AS (
  SELECT resource_arn, list(tag_key) FILTER (NOT starts_with(tag_key, 'aws:')) AS names
  FROM resource_tags
  GROUP BY resource_arn
), secret AS (
  SELECT r.*, len(w.names) AS required_count, len(coalesce(t.names, [])) AS tags,
    array_to_string(list_filter(w.names, lambda tag_name: NOT list_contains(coalesce(t.names, []), tag_name)), ', ') AS missing
  FROM internal.secrets r
  CROSS JOIN expected w
  LEFT JOIN secret_tags t ON t.resource_arn = r.resource_arn
)
SELECT resource_arn, account_id, region, NULL AS key_arn, stale_note AS note,
  CASE
    WHEN not_applicable_reason IS NOT NULL THEN not_applicable(not_applicable_reason)
    WHEN required_count = 0 AND tags = 0 THEN fail('It has no tags.')
    WHEN missing <> '' THEN fail('These tags are missing: ' || missing || '.')
    WHEN required_count = 0 AND tags > 0 THEN pass('It has ' || internal.counted(tags, 'tag.', 'tags.'))
    WHEN missing = '' THEN pass('It has the tags ' || $tags || '.')
  END AS verdict
FROM secret
