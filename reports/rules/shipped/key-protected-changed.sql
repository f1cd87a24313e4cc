-- id: key-protected-changed
-- title: Protected keys did not change lately
-- severity: medium
-- family: use
-- why: >-
--   Some keys matter more than others: those of backups, of customers' data, of signatures. Whoever is responsible
--   for one wants to hear of each change of its policy, its grants, its state and its aliases on the next morning,
--   whether it was planned or not.
-- fix: >-
--   Compare the change in the reason with what was planned; `kmsledger diff` shows it in full, and CloudTrail who
--   made it. Undo what nobody asked for, starting with scheduled deletions and with principals that were let in. The
--   finding ends by itself when the days have passed. Tag the keys that deserve this with the tag of the parameters.
-- console: >-
--   In CloudTrail, "Event history", filter by the resource name (the key's ARN).
-- cli: |-
--   aws cloudtrail lookup-events --lookup-attributes AttributeKey=ResourceName,AttributeValue=KEY_ARN
-- terraform: >-
--   A plan of the code that owns the aws_kms_key shows what differs; applying it undoes a change made by hand. Mark
--   the key with tags = { Protected = "true" }.
-- parameters:
--   tag: {default: "Protected", about: "The key of the tag that marks protected keys."}
--   value: {default: "", about: "The value of that tag; empty: any value."}
--   days: {default: "7", about: "For how many days after a change a key fails."}
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), once AS (
  -- Who takes the tag away first is not out of sight.
  SELECT DISTINCT h.key_arn
  FROM key_tags_history h, now
  WHERE h.tag_key = $tag AND (trim($value) = '' OR h.tag_value = $value)
    AND h.valid_to_at >= now.moment - to_days(CAST($days AS INTEGER))
), considered AS (
  SELECT k.*,
    (k.tags[$tag] IS NOT NULL AND (trim($value) = '' OR k.tags[$tag] = $value)) IS TRUE AS tagged
  FROM internal.customer_keys k
  LEFT JOIN once o ON o.key_arn = k.key_arn
  WHERE k.tags IS NULL OR o.key_arn IS NOT NULL
    OR (k.tags[$tag] IS NOT NULL AND (trim($value) = '' OR k.tags[$tag] = $value))
), concerned AS (
  SELECT c.run_id, c.occurred_at, c.message, unnest(list_distinct(list_filter([c.key_arn,
    CASE WHEN c.event_type = 'alias_moved' THEN c.before END], lambda arn: arn IS NOT NULL))) AS key_arn
  FROM changes c, now
  WHERE c.occurred_at >= now.moment - to_days(CAST($days AS INTEGER))
    AND c.event_type IN ('policy_opened', 'policy_changed', 'grant_added', 'grant_changed', 'grant_removed', 'key_state',
      'deletion_scheduled', 'deletion_cancelled', 'alias_created', 'alias_moved', 'alias_removed')
), changed AS (
  SELECT key_arn, count(*) AS changes,
    list(strftime(occurred_at, '%Y-%m-%d') || ': ' || message ORDER BY run_id DESC, message) AS sentences
  FROM concerned
  WHERE key_arn IN (SELECT key_arn FROM considered)
  GROUP BY key_arn
), unlisted AS (
  SELECT DISTINCT account_id, region FROM coverage
  WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListAliases'
)
SELECT
  k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN k.manager IS NULL OR k.tags IS NULL THEN 'unknown'
    WHEN c.changes IS NULL AND (k.state IS NULL OR NOT k.policy_known OR k.grants IS NULL
      OR len(list_filter(k.denied_actions, lambda one: one IN ('kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'))) > 0
      OR u.account_id IS NOT NULL) THEN 'unknown'
    WHEN c.changes > 0 THEN 'fail'
    WHEN c.changes IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN k.manager IS NULL THEN 'The key could not be described' || k.denied_note || '.'
    WHEN k.tags IS NULL
      THEN 'Its tags could not be read' || k.denied_note || ', so it may be a protected key.'
    WHEN c.changes > 0 THEN c.sentences[1]
      || CASE WHEN c.changes > 1 THEN ' Further changes in these days: ' || (c.changes - 1) || '.' ELSE '' END
    WHEN u.account_id IS NOT NULL THEN 'The aliases of its account and region could not be listed.'
    WHEN k.state IS NULL OR NOT k.policy_known OR k.grants IS NULL
      OR len(list_filter(k.denied_actions, lambda one: one IN ('kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'))) > 0
      THEN 'No change was seen, but not all of the key could be read' || k.denied_note || '.'
    ELSE 'No change was seen in the last ' || $days || ' days.'
  END
    || CASE WHEN NOT k.tagged AND k.tags IS NOT NULL
      THEN ' The tag ' || $tag || ' was taken away in these days.' ELSE '' END
    || k.stale_note AS reason
FROM considered k
LEFT JOIN changed c ON c.key_arn = k.key_arn
LEFT JOIN unlisted u ON u.account_id = k.account_id AND u.region = k.region
