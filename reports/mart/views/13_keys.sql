-- The keys of the organization.
--! stored
--: key_arn | The key's ARN: its identity.
--: key_id | Its id; keys of several regions can share one.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: alias | Its first alias by name, with the prefix alias/.
--: aliases | All its aliases.
--: manager | CUSTOMER or AWS.
--: state | Enabled, Disabled, PendingDeletion ...
--: enabled | Whether it can be used.
--: description | Its description.
--: key_usage | ENCRYPT_DECRYPT, SIGN_VERIFY ...
--: key_spec | SYMMETRIC_DEFAULT, RSA_4096 ...
--: origin | Where its material comes from: AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE.
--: created_at | When it was created.
--: age_days | Its age in whole days as of the run.
--: deletion_date | When it will be deleted.
--: days_to_deletion | Days from the run to that date.
--: pending_window_days | The waiting period of a multi-Region key's deletion.
--: material_expires_at | When imported material expires.
--: expiration_model | Whether imported material expires.
--: multi_region | Whether it is a multi-Region key.
--: multi_region_type | PRIMARY or REPLICA.
--: primary_arn | The primary of a multi-Region key.
--: replica_arns | Its replicas.
--: custom_key_store_id | The custom key store that holds it.
--: rotation_status | on, off or not_applicable; empty when not known.
--: rotation_reason | Why rotation does not apply.
--: rotation_period_days | Days between automatic rotations.
--: next_rotation_at | When it rotates next.
--: last_rotated_at | When it last rotated.
--: last_used_at | When it was last used, as far as AWS told: successful cryptographic operations, seen within an hour.
--: last_used_operation | What it was used for then: Decrypt, GenerateDataKey ...
--: last_use | used, never used or unknown. A key that nobody calls may still protect data: an attached volume makes no calls.
--: last_use_reason | Why that is all that is known; empty for a use that AWS told when it was last asked.
--: last_use_polled_at | When AWS was last asked; empty when it was not yet, and as of a run after which it was asked again.
--: last_use_reported_at | When AWS told what is known of the last use; empty when it never did, or has refused since.
--: last_use_tracked_since | Since when AWS watches the key's use: no use means none since then.
--: grants | How many grants it has; empty when not known.
--: dependent_resources | How many resources are known to use it.
--: tags | Its tags; empty (NULL) when not known.
--: policy_known | Whether its policy is known.
--: delegates_to_iam | Whether its policy lets the account's IAM policies decide (some actions at least); NULL: unknown.
--: freshness | yes, or last known: something of it could not be read in the run.
--: denied_actions | The actions that were refused for it, last use (last_use_reason) aside.
--: first_seen_run | The run that first saw it.
--: current_version_since | When its metadata was first seen as it is.
--: last_seen_run | The latest run whose listing of its account and region could show it.
WITH this_run AS (
  SELECT started_at FROM internal.run WHERE run_id = as_of_run
), gapped AS (
  SELECT subject AS key_arn, list_sort(list(DISTINCT action)) AS denied_actions,
    min(valid_from) FILTER (operation = 'ListGrants') AS grants_unknown,
    min(valid_from) FILTER (operation = 'ListResourceTags') AS tags_unknown
  FROM internal.gap g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject <> ''
  GROUP BY subject
), unlisted AS (
  SELECT account_id, region, min(valid_from) AS unlisted_from
  FROM internal.gap g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject = '' AND operation = 'ListKeys'
  GROUP BY account_id, region
), confirmed AS (
  SELECT s.account_id, s.region, max(s.run_id) AS run_id
  FROM internal.scope_coverage s
  LEFT JOIN unlisted u USING (account_id, region)
  WHERE s.run_id <= as_of_run AND s.outcome IN ('complete', 'partial')
    AND (u.unlisted_from IS NULL OR s.run_id < u.unlisted_from)
  GROUP BY s.account_id, s.region
), earlier AS (
  -- Of the few keys that were gone once; what is there now has no end, or is the last one.
  SELECT key_arn, min(valid_from) AS run_id FROM internal.key WHERE valid_to IS NOT NULL GROUP BY key_arn
), aliased AS (
  SELECT target_key_arn AS key_arn, list_sort(list(alias_name)) AS aliases
  FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IS NOT NULL
  GROUP BY target_key_arn
), tagged AS (
  -- A tag key is there once, so that sorting the pairs afterwards sorts by it: much cheaper than lists that keep an order.
  SELECT resource_arn AS key_arn, map_from_entries(list_sort(list((tag_key, tag_value)))) AS tags
  FROM internal.tag t
  WHERE internal.known(t.valid_from, t.valid_to, as_of_run) AND contains(resource_arn, ':kms:')
  GROUP BY resource_arn
), granted AS (
  SELECT key_arn, count(*) AS grants FROM internal.key_grant g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
  GROUP BY key_arn
), used AS (
  SELECT key_arn, count(DISTINCT resource_arn) AS dependent_resources FROM internal.resource_key u
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run) AND key_arn IS NOT NULL
  GROUP BY key_arn
), rotated AS (
  SELECT key_arn, max(rotated_at) AS rotated_at FROM internal.key_rotation_event e
  WHERE internal.known(e.valid_from, e.valid_to, as_of_run)
  GROUP BY key_arn
), reported AS (
  SELECT key_arn, operation, used_at, tracking_started_at,
    CASE
      WHEN used_at IS NOT NULL OR operation IS NOT NULL THEN 'used'
      -- Tracking begins with the key, or with AWS's tracking, whichever is later.
      WHEN tracking_started_at <= key_created_at THEN 'never_used'
      ELSE 'unknown'
    END AS last_use,
    key_created_at < tracking_started_at AS is_older
  FROM internal.key_last_use l
  WHERE internal.known(l.valid_from, l.valid_to, as_of_run)
), not_reported AS (
  SELECT key_arn, CASE
      WHEN g.cause IN ('key_policy', 'role_permission', 'service_control_policy', 'resource_control_policy',
        'session_policy', 'permissions_boundary', 'explicit_deny', 'denied') THEN 'denied: ' || coalesce(z.text, g.cause)
      ELSE coalesce(z.text, g.cause)
    END AS reason
  FROM internal.key_last_use_gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
), delegating AS (
  SELECT n.policy_hash, list(DISTINCT n.account) AS accounts
  FROM internal.policy_principal n
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
  WHERE s.effect = 'Allow' AND s.has_resource AND n.type = 'account' AND n.principal <> '*'
  GROUP BY n.policy_hash
), policy AS (
  SELECT p.key_arn, x.readable, d.accounts
  FROM internal.key_policy p
  JOIN internal.policy x USING (policy_hash)
  LEFT JOIN delegating d USING (policy_hash)
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
), read AS (
  SELECT k.key_arn, k.key_id, k.account_id, k.region, m.* EXCLUDE (key_arn, valid_from, valid_to),
    least(k.valid_from, f.run_id) AS first_seen_run, coalesce(m.valid_from, least(k.valid_from, f.run_id)) AS version,
    p.key_arn AS policy_of, p.readable, list_contains(p.accounts, k.account_id) AS delegates,
    -- Not asked (keys of AWS, unless configured) is as unknown as refused.
    (m.manager = 'AWS' AND p.key_arn IS NULL) IS TRUE AS not_asked
  FROM internal.key k
  LEFT JOIN internal.key_metadata m ON m.key_arn = k.key_arn AND internal.known(m.valid_from, m.valid_to, as_of_run)
  LEFT JOIN policy p ON p.key_arn = k.key_arn
  LEFT JOIN earlier f ON f.key_arn = k.key_arn
  WHERE internal.known(k.valid_from, k.valid_to, as_of_run)
)
SELECT k.key_arn, k.key_id, k.account_id, c.name AS account_name, k.region,
  a.aliases[1] AS alias, coalesce(a.aliases, CAST([] AS VARCHAR[])) AS aliases,
  k.manager, k.state, k.enabled, k.description, k.key_usage, k.key_spec, k.origin, k.created_at,
  date_sub('day', k.created_at, this_run.started_at) AS age_days,
  k.deletion_date, date_diff('day', this_run.started_at, k.deletion_date) AS days_to_deletion, k.pending_window_days,
  k.material_expires_at, k.expiration_model, k.multi_region, k.multi_region_type, k.primary_arn,
  coalesce(CAST(CAST(k.replica_arns AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[])) AS replica_arns,
  k.custom_key_store_id,
  o.status AS rotation_status, o.reason AS rotation_reason, o.period_days AS rotation_period_days, o.next_rotation_at,
  e.rotated_at AS last_rotated_at,
  l.used_at AS last_used_at, l.operation AS last_used_operation, coalesce(l.last_use, 'unknown') AS last_use,
  CASE
    WHEN l.last_use = 'used' THEN 'when asked again: ' || w.reason
    WHEN l.key_arn IS NOT NULL THEN CASE
        WHEN l.last_use = 'never_used' THEN 'no use since it was created'
        WHEN l.is_older
        THEN 'no use since tracking began on ' || strftime(l.tracking_started_at, '%Y-%m-%d') || '; the key is older'
        ELSE 'no use since tracking began, and AWS did not tell when that was'
      END || coalesce('; when asked again: ' || w.reason, '')
    WHEN w.key_arn IS NOT NULL THEN w.reason
    WHEN k.manager = 'AWS' THEN 'AWS managed key: not asked'
    ELSE 'not asked yet'
  END AS last_use_reason,
  q.polled_at AS last_use_polled_at,
  CASE WHEN l.key_arn IS NOT NULL AND w.key_arn IS NULL THEN q.polled_at END AS last_use_reported_at,
  l.tracking_started_at AS last_use_tracked_since,
  CASE
    WHEN g.grants IS NOT NULL THEN g.grants
    WHEN k.not_asked OR x.grants_unknown <= k.first_seen_run THEN NULL
    ELSE 0
  END AS grants,
  coalesce(u.dependent_resources, 0) AS dependent_resources,
  CASE
    WHEN t.tags IS NOT NULL THEN t.tags
    WHEN k.not_asked OR x.tags_unknown <= k.first_seen_run THEN NULL
    ELSE map_from_entries(CAST([] AS STRUCT(k VARCHAR, v VARCHAR)[]))
  END AS tags,
  k.policy_of IS NOT NULL AS policy_known,
  CASE
    WHEN k.policy_of IS NULL THEN NULL
    WHEN k.delegates THEN true
    WHEN k.readable THEN false
  END AS delegates_to_iam,
  CASE WHEN h.run_id = as_of_run AND x.key_arn IS NULL THEN 'current' ELSE 'stale' END AS freshness,
  coalesce(x.denied_actions, CAST([] AS VARCHAR[])) AS denied_actions,
  k.first_seen_run, r.started_at AS current_version_since, h.run_id AS last_seen_run
FROM read k
LEFT JOIN this_run ON true
LEFT JOIN internal.account c ON c.account_id = k.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN aliased a ON a.key_arn = k.key_arn
LEFT JOIN tagged t ON t.key_arn = k.key_arn
LEFT JOIN granted g ON g.key_arn = k.key_arn
LEFT JOIN used u ON u.key_arn = k.key_arn
LEFT JOIN rotated e ON e.key_arn = k.key_arn
LEFT JOIN internal.key_rotation o ON o.key_arn = k.key_arn AND internal.known(o.valid_from, o.valid_to, as_of_run)
LEFT JOIN reported l ON l.key_arn = k.key_arn
LEFT JOIN not_reported w ON w.key_arn = k.key_arn
LEFT JOIN internal.key_last_use_poll q ON q.key_arn = k.key_arn AND q.run_id <= as_of_run
LEFT JOIN gapped x ON x.key_arn = k.key_arn
LEFT JOIN confirmed h ON h.account_id = k.account_id AND h.region = k.region
LEFT JOIN internal.run r ON r.run_id = k.version
