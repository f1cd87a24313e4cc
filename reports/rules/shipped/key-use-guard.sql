-- id: key-use-guard
-- title: Keys in use are protected against disabling and deletion
-- severity: low
-- family: use
-- why: >-
--   KMS tracks when a key was last used, and policies can check it: with the condition key
--   kms:TrailingDaysWithoutKeyUsage, a policy denies disabling or deleting a recently used key, for every principal.
--   Without it, one wrong ID in a cleanup script can make a production key unusable.
-- fix: >-
--   Add a Deny for kms:DisableKey and kms:ScheduleKeyDeletion to the key policy, for all principals, with the condition
--   NumericLessThan kms:TrailingDaysWithoutKeyUsage and the number of days. To retire such a key later, stop using it
--   and wait, or remove the statement first. A service control policy can enforce this for the whole organization;
--   kmsledger does not read service control policies, so disable this rule if you have one.
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
--   days: {default: "90", about: "A key that was called within this number of days counts as used."}
--   guard_days: {default: "7", about: "Minimum number of days after its last use for which the policy must protect a key."}
WITH deny_statement AS (
  SELECT s.key_arn, s.sid, s.statement_index, s.conditions,
    -- Action names are compared as in AWS: case-insensitive, with the wildcards * and ?.
    (len(list_filter(s.actions, lambda action: 'kms:DisableKey' ILIKE replace(replace(action, '*', '%'), '?', '_'))) > 0)
      <> s.not_actions AS disabling,
    (len(list_filter(s.actions, lambda action:
      'kms:ScheduleKeyDeletion' ILIKE replace(replace(action, '*', '%'), '?', '_'))) > 0) <> s.not_actions AS deleting,
    s.principal_kind = 'Principal' AND len(list_filter(s.principals, lambda principal: principal = '*' OR principal = s.account_id
      OR ends_with(principal, '::' || s.account_id || ':root'))) > 0 AS everyone,
    len(list_filter(s.resources, lambda arn: s.key_arn LIKE replace(replace(arn, '*', '%'), '?', '_'))) > 0 AS this_key,
    json_keys(s.conditions) AS operators
  FROM key_policy_statements s
  WHERE s.effect = 'Deny' AND s.has_resource
), conditioned_denial AS (
  SELECT *,
    CASE WHEN operators IS NULL THEN NULL
      WHEN len(operators) = 1 AND regexp_full_match(operators[1], 'NumericLessThan(Equals)?(IfExists)?')
        THEN json_extract(conditions, '$."' || operators[1] || '"') END AS block
  FROM deny_statement
  WHERE (disabling OR deleting) AND this_key
), key_guard AS (
  SELECT key_arn,
    bool_or(disabling AND everyone AND days >= CAST($guard_days AS INTEGER)) AS disabling,
    bool_or(deleting AND everyone AND days >= CAST($guard_days AS INTEGER)) AS deleting,
    bool_or(disabling AND (NOT everyone OR days IS NULL)) AS possibly_disabling,
    bool_or(deleting AND (NOT everyone OR days IS NULL)) AS possibly_deleting,
    max(days) FILTER (days < CAST($guard_days AS INTEGER)) AS insufficient_days
  FROM (
    SELECT *,
      CASE WHEN operators IS NULL THEN 1000000
        WHEN len(json_keys(block)) = 1 AND lower(json_keys(block)[1]) = 'kms:trailingdayswithoutkeyusage'
          THEN TRY_CAST(regexp_extract(CAST(block AS VARCHAR), ':\[?"?([0-9]+)"?\]?}$', 1) AS INTEGER) END AS days
    FROM conditioned_denial
  )
  GROUP BY key_arn
), candidate AS (
  SELECT k.*, p.readable, g.insufficient_days,
    coalesce(g.disabling AND g.deleting, false) AS guarded,
    coalesce((g.disabling OR g.possibly_disabling) AND (g.deleting OR g.possibly_deleting), false) AS possibly_guarded,
    n.unread_resources, r.started_at - to_days(CAST($days AS INTEGER)) AS threshold
  FROM internal.customer_keys k
  CROSS JOIN internal.latest_run r
  LEFT JOIN key_policies p ON p.key_arn = k.key_arn
  LEFT JOIN key_guard g ON g.key_arn = k.key_arn
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
), evaluated AS (
  SELECT *,
    CASE WHEN dependent_resources > 0 OR grants > 0 OR last_used_at >= threshold THEN true
      WHEN grants IS NULL OR len(unread_resources) > 0 OR last_use_reported_at IS NULL THEN NULL
      WHEN last_use = 'never_used' THEN false
      WHEN last_use = 'used' AND last_used_at < threshold THEN false
      WHEN last_use = 'unknown' AND last_use_tracked_since < threshold THEN false END AS in_use
  FROM candidate
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state NOT IN ('Enabled', 'Creating', 'Updating', 'Unavailable')
      THEN not_applicable('The key is in state ' || state || '.')
    WHEN manager IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN NOT in_use THEN not_applicable('Nothing uses the key.')
    WHEN in_use IS NULL THEN unknown('Could not determine whether the key is in use' || CASE
        WHEN grants IS NULL THEN internal.because(failure_causes, ['kms:ListGrants'])
        WHEN len(unread_resources) > 0 THEN ' (' || array_to_string(unread_resources, '; ') || ')'
        ELSE coalesce(' (' || last_use_reason || ')', '') END || '.')
    WHEN readable IS NULL THEN unknown('Its policy could not be read'
      || internal.because(failure_causes, ['kms:GetKeyPolicy']) || '.')
    WHEN NOT readable THEN unknown('Parts of its policy could not be parsed.')
    WHEN guarded THEN pass('Its policy denies disabling and deleting it while it is in use.')
    WHEN possibly_guarded THEN unknown(
      'Its policy denies disabling and deleting it, but not to all principals, or under conditions that are not evaluated.')
    WHEN insufficient_days IS NOT NULL
      THEN fail('Its policy protects it for only ' || internal.counted(insufficient_days, 'day', 'days')
        || ' after its last use.')
    WHEN NOT guarded THEN fail('Its policy does not deny disabling and deleting it while it is in use.')
  END AS verdict
FROM evaluated
