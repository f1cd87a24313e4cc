-- id: key-use-guard
-- title: Keys in use are guarded against being disabled or deleted
-- severity: low
-- family: use
-- why: >-
--   KMS knows when a key was last used, and a policy can ask: with the condition key kms:TrailingDaysWithoutKeyUsage
--   an attempt to disable or delete a key that was used in the last days is refused, whoever makes it. Without that,
--   one wrong id in a clean-up script takes a production key away.
-- fix: >-
--   Add a Deny for kms:DisableKey and kms:ScheduleKeyDeletion to the key policy, for everyone, with the condition
--   NumericLessThan kms:TrailingDaysWithoutKeyUsage and the days. To retire such a key later, stop using it and wait,
--   or take the statement out first. A service control policy can do the same for a whole organization; those are not
--   read here, so disable this rule if you have one.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Edit" and add the statement.
-- cli: |-
--   aws kms get-key-policy --key-id KEY_ARN --query Policy --output text > policy.json
--   aws kms put-key-policy --key-id KEY_ARN --policy-name default --policy file://policy.json
-- terraform: >-
--   In the aws_iam_policy_document of the key add a statement with effect = "Deny", actions = ["kms:DisableKey",
--   "kms:ScheduleKeyDeletion"], principals of type * and a condition with test = "NumericLessThan", variable =
--   "kms:TrailingDaysWithoutKeyUsage", values = ["30"].
-- parameters:
--   days: {default: "90", about: "A key that was called within so many days counts as used."}
--   guard_days: {default: "7", about: "For how many days after its last use the policy has to guard a key at least."}
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), denial AS (
  SELECT s.key_arn, s.sid, s.statement_index, s.conditions,
    -- Names of actions are compared as AWS does: any letter case, * and ?.
    (len(list_filter(s.actions, lambda one: 'kms:DisableKey' ILIKE replace(replace(one, '*', '%'), '?', '_'))) > 0)
      <> s.not_actions AS disabling,
    (len(list_filter(s.actions, lambda one:
      'kms:ScheduleKeyDeletion' ILIKE replace(replace(one, '*', '%'), '?', '_'))) > 0) <> s.not_actions AS deleting,
    s.principal_kind = 'Principal' AND len(list_filter(s.principals, lambda one: one = '*' OR one = s.account_id
      OR ends_with(one, '::' || s.account_id || ':root'))) > 0 AS everyone,
    len(list_filter(s.resources, lambda one: s.key_arn LIKE replace(replace(one, '*', '%'), '?', '_'))) > 0 AS this_key,
    json_keys(s.conditions) AS operators
  FROM key_policy_statements s
  WHERE s.effect = 'Deny' AND s.has_resource
), tested AS (
  SELECT *,
    CASE WHEN operators IS NULL THEN NULL
      WHEN len(operators) = 1 AND regexp_full_match(operators[1], 'NumericLessThan(Equals)?(IfExists)?')
        THEN json_extract(conditions, '$."' || operators[1] || '"') END AS block
  FROM denial
  WHERE (disabling OR deleting) AND this_key
), guard AS (
  SELECT key_arn,
    bool_or(disabling AND everyone AND days >= CAST($guard_days AS INTEGER)) AS disabling,
    bool_or(deleting AND everyone AND days >= CAST($guard_days AS INTEGER)) AS deleting,
    bool_or(disabling AND (NOT everyone OR days IS NULL)) AS perhaps_disabling,
    bool_or(deleting AND (NOT everyone OR days IS NULL)) AS perhaps_deleting,
    max(days) FILTER (days < CAST($guard_days AS INTEGER)) AS few_days
  FROM (
    SELECT *,
      CASE WHEN operators IS NULL THEN 1000000
        WHEN len(json_keys(block)) = 1 AND lower(json_keys(block)[1]) = 'kms:trailingdayswithoutkeyusage'
          THEN TRY_CAST(regexp_extract(CAST(block AS VARCHAR), ':\[?"?([0-9]+)"?\]?}$', 1) AS INTEGER) END AS days
    FROM tested
  )
  GROUP BY key_arn
), considered AS (
  SELECT k.key_arn, k.account_id, k.region, k.manager, k.state, k.dependent_resources, k.grants, k.last_use, k.last_used_at,
    k.last_use_reported_at, k.last_use_tracked_since, k.last_use_reason, p.readable, g.few_days,
    coalesce(g.disabling AND g.deleting, false) AS guarded,
    coalesce((g.disabling OR g.perhaps_disabling) AND (g.deleting OR g.perhaps_deleting), false) AS perhaps,
    k.denied_note, k.stale_note, n.denied_resource_actions AS blind, now.moment - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  CROSS JOIN now
  LEFT JOIN key_policies p ON p.key_arn = k.key_arn
  LEFT JOIN guard g ON g.key_arn = k.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
), weighed AS (
  SELECT *,
    CASE WHEN dependent_resources > 0 OR grants > 0 OR last_used_at >= oldest THEN true
      WHEN grants IS NULL OR len(blind) > 0 OR last_use_reported_at IS NULL THEN NULL
      WHEN last_use = 'never_used' THEN false
      WHEN last_use = 'used' AND last_used_at < oldest THEN false
      WHEN last_use = 'unknown' AND last_use_tracked_since < oldest THEN false END AS in_use
  FROM considered
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating', 'Unavailable') OR (manager IS NOT NULL AND NOT in_use)
      THEN 'not_applicable'
    WHEN manager IS NULL OR state IS NULL OR in_use IS NULL OR readable IS NOT TRUE
      OR (perhaps AND NOT guarded) THEN 'unknown'
    WHEN NOT guarded THEN 'fail'
    WHEN guarded THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating', 'Unavailable') THEN 'The key is in state ' || state || '.'
    WHEN manager IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN NOT in_use THEN 'Nothing uses the key.'
    WHEN in_use IS NULL THEN 'Whether the key is in use is not known' || denied_note || '.'
    WHEN readable IS NULL THEN 'Its policy could not be read' || denied_note || '.'
    WHEN NOT readable THEN 'A part of its policy has a form that is not known.'
    WHEN guarded THEN 'Its policy denies disabling and deleting it while it is used.'
    WHEN perhaps
      THEN 'Its policy denies disabling and deleting it, but not to everyone or under conditions that are not judged.'
    WHEN few_days IS NOT NULL THEN 'Its policy guards it for ' || few_days || ' day(s) after its last use only.'
    ELSE 'Its policy does not deny to disable and to delete it while it is used.'
  END || stale_note AS reason
FROM weighed
