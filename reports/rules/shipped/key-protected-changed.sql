-- id: key-protected-changed
-- title: Protected keys did not change recently
-- severity: medium
-- family: use
-- why: >-
--   Some keys matter more than others: those for backups, customer data or signatures. The owners of such keys want to
--   know about each change of policy, grants, state and aliases the next day, planned or not.
-- fix: >-
--   Compare the change in the reason with what was planned; `kmsledger diff` shows the full change, and CloudTrail
--   shows who made it. Revert unplanned changes, starting with scheduled deletions and added principals. The finding
--   resolves automatically after the configured number of days. Mark the keys to protect with the tag from the
--   parameters.
-- console: >-
--   In CloudTrail, "Event history", filter by resource name (the key ARN).
-- cli: |-
--   aws cloudtrail lookup-events --lookup-attributes AttributeKey=ResourceName,AttributeValue=KEY_ARN
-- terraform: >-
--   A plan of the code that manages the aws_kms_key shows the differences; applying it reverts a manual change. Mark
--   the key with tags = { Protected = "true" }.
-- parameters:
--   tag: {default: "Protected", about: "Tag key that marks protected keys."}
--   value: {default: "", about: "Value of that tag; empty for any value."}
--   days: {default: "7", about: "Number of days for which a key fails after a change."}
WITH recently_tagged AS (
  -- Keys that recently lost the tag are included, so that removing the tag hides no change.
  SELECT DISTINCT h.key_arn
  FROM key_tags_history h, internal.latest_run r
  WHERE h.tag_key = $tag AND (trim($value) = '' OR h.tag_value = $value)
    AND h.valid_to_at >= r.started_at - to_days(CAST($days AS INTEGER))
), candidate AS (
  SELECT k.*,
    (k.tags[$tag] IS NOT NULL AND (trim($value) = '' OR k.tags[$tag] = $value)) IS TRUE AS tagged
  FROM internal.customer_keys k
  LEFT JOIN recently_tagged o ON o.key_arn = k.key_arn
  WHERE k.tags IS NULL OR o.key_arn IS NOT NULL OR tagged
), key_change AS (
  SELECT c.run_id, c.occurred_at, c.message, unnest(list_distinct(list_filter([c.key_arn,
    CASE WHEN c.event_type = 'alias_moved' THEN c.before END], lambda arn: arn IS NOT NULL))) AS key_arn
  FROM changes c, internal.latest_run r
  WHERE c.occurred_at >= r.started_at - to_days(CAST($days AS INTEGER))
    AND c.event_type IN ('policy_opened', 'policy_changed', 'grant_added', 'grant_changed', 'grant_removed', 'key_state',
      'deletion_scheduled', 'deletion_cancelled', 'alias_created', 'alias_moved', 'alias_removed')
), key_changes AS (
  SELECT key_arn, count(*) AS changes,
    list(strftime(occurred_at, '%Y-%m-%d') || ': ' || message ORDER BY run_id DESC, message) AS messages
  FROM key_change
  WHERE key_arn IN (SELECT key_arn FROM candidate)
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN k.manager IS NULL THEN internal.undescribed(k.failure_causes)
    WHEN k.tags IS NULL
      THEN unknown('Its tags could not be read'
        || internal.because(k.failure_causes, ['kms:ListResourceTags']) || ', so it may be a protected key.')
    WHEN c.changes > 0 THEN fail(c.messages[1]
      || CASE WHEN c.changes > 1 THEN ' Further changes in this period: ' || (c.changes - 1) || '.' ELSE '' END)
    WHEN l.aliases_unlisted THEN unknown('The aliases of its account and region could not be listed.')
    WHEN k.state IS NULL OR NOT k.policy_known OR k.grants IS NULL
      OR list_has_any(k.denied_actions, ['kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'])
      THEN unknown('No change was detected, but parts of the key could not be read'
        || internal.because(k.failure_causes, k.denied_actions) || '.')
    WHEN c.changes IS NULL THEN pass('No change was detected in the last ' || $days || ' days.')
  END AS verdict,
  CASE WHEN NOT k.tagged AND k.tags IS NOT NULL THEN ' The tag ' || $tag || ' was removed in this period.' ELSE '' END
    || k.stale_note AS note
FROM candidate k
LEFT JOIN key_changes c ON c.key_arn = k.key_arn
LEFT JOIN internal.key_listings l ON l.account_id = k.account_id AND l.region = k.region
