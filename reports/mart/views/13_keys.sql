-- The keys of the organization.
--! stored
--: key_arn | The ARN of the key; it identifies the key.
--: key_id | The key ID; multi-Region keys share it across regions.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: alias | The first of its aliases by name, with the prefix alias/.
--: aliases | All its aliases.
--: manager | CUSTOMER or AWS.
--: state | The key state: Enabled, Disabled, PendingDeletion ...
--: enabled | Whether the key is enabled.
--: description | Its description.
--: key_usage | ENCRYPT_DECRYPT, SIGN_VERIFY ...
--: key_spec | SYMMETRIC_DEFAULT, RSA_4096 ...
--: origin | The source of the key material: AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE.
--: created_at | When it was created.
--: age_days | Its age in whole days at the time of the run.
--: deletion_date | When the key will be deleted.
--: days_to_deletion | Days from the run until the deletion date.
--: pending_window_days | The waiting period before a multi-Region primary key is deleted.
--: material_expires_at | When the imported key material expires.
--: expiration_model | Whether the imported key material expires.
--: multi_region | Whether it is a multi-Region key.
--: multi_region_type | PRIMARY or REPLICA.
--: primary_arn | The primary key of a multi-Region key.
--: replica_arns | The replica keys of a multi-Region key.
--: custom_key_store_id | The custom key store that holds it.
--: rotation_status | enabled, disabled or not_applicable; NULL if unknown.
--: rotation_reason | Why rotation does not apply.
--: rotation_period_days | Days between automatic rotations.
--: next_rotation_at | The date of the next automatic rotation.
--: last_rotated_at | The date of the last rotation.
--: last_used_at | When AWS last recorded a successful cryptographic operation with the key, accurate to within an hour.
--: last_used_operation | The operation of that last use: Decrypt, GenerateDataKey ...
--: last_use | used, never_used or unknown. A key without calls may still protect data: an attached volume makes no calls.
--: last_use_reason | Why the last use is unknown or limited; NULL for a use that AWS reported at the last request.
--: last_use_polled_at | When the last use was last requested; NULL if never, and as of a run before the latest request.
--: last_use_reported_at | When AWS reported the known last use; NULL if never, or if later requests were denied.
--: last_use_tracked_since | When AWS began to track the key's use: "no use" means no use since then.
--: grants | The number of its grants; NULL if their listing is not complete.
--: dependent_resources | The number of resources known to use the key.
--: tags | Its tags; NULL if unknown.
--: policy_known | Whether its policy could be read.
--: delegates_to_iam | Whether the key policy lets IAM policies of the account allow access (at least for some actions); NULL if unknown.
--: freshness | current; stale: its description is that of an earlier run; or unknown: it was never described.
--: denied_actions | The actions that failed for the key, so that what they return is unknown or of an earlier run; except those of the last use (see last_use_reason).
--: failure_causes | Why each of these actions failed, by action; NULL if none did.
--: first_seen_run | The run that first saw it.
--: current_version_since | When the current version of its metadata was first seen.
--: last_seen_run | The latest run that listed the keys of its account and region.
WITH this_run AS (
  SELECT started_at FROM internal.run WHERE run_id = as_of_run
), failed AS (
  SELECT subject AS key_arn, action, min(coalesce(z.text, g.cause)) AS cause,
    min(valid_from) FILTER (operation = 'ListResourceTags') AS tags_unknown
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject <> ''
  GROUP BY subject, action
), gapped AS (
  SELECT key_arn, list_sort(list(action)) AS denied_actions, map_from_entries(list_sort(list((action, cause)))) AS failure_causes,
    min(tags_unknown) AS tags_unknown
  FROM failed
  GROUP BY key_arn
), unlisted AS (
  SELECT account_id, region, min(valid_from) AS unlisted_from
  FROM internal.gap g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND subject = '' AND operation = 'ListKeys'
  GROUP BY account_id, region
), confirmed AS (
  -- What was not part of a run was last seen by an earlier one.
  SELECT s.account_id, s.region, max(coalesce(s.read_run_id, s.run_id)) AS run_id
  FROM internal.scope_coverage s
  LEFT JOIN unlisted u USING (account_id, region)
  WHERE s.run_id <= as_of_run AND s.outcome IN ('complete', 'partial')
    AND (u.unlisted_from IS NULL OR coalesce(s.read_run_id, s.run_id) < u.unlisted_from)
  GROUP BY s.account_id, s.region
), earlier AS (
  -- Only the few keys that had disappeared before; their current version has no end, or is the last one.
  SELECT key_arn, min(valid_from) AS run_id FROM internal.key WHERE valid_to IS NOT NULL GROUP BY key_arn
), aliased AS (
  SELECT target_key_arn AS key_arn, list_sort(list(alias_name)) AS aliases
  FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IS NOT NULL
  GROUP BY target_key_arn
), tagged AS (
  -- Each tag key occurs once, so sorting the pairs afterwards sorts by tag key: much cheaper than ordered lists.
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
    -- A skipped request (AWS managed keys, unless configured) leaves the policy as unknown as a denied one.
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
    WHEN l.last_use = 'used' THEN 'latest request: ' || w.reason
    WHEN l.key_arn IS NOT NULL THEN CASE
        WHEN l.last_use = 'never_used' THEN 'no use since it was created'
        WHEN l.is_older
        THEN 'no use since tracking began on ' || strftime(l.tracking_started_at, '%Y-%m-%d') || '; the key is older'
        ELSE 'no use since tracking began, and AWS did not return its start'
      END || coalesce('; latest request: ' || w.reason, '')
    WHEN w.key_arn IS NOT NULL THEN w.reason
    WHEN k.manager = 'AWS' THEN 'AWS managed key: not requested'
    ELSE 'not requested yet'
  END AS last_use_reason,
  q.polled_at AS last_use_polled_at,
  CASE WHEN l.key_arn IS NOT NULL AND w.key_arn IS NULL THEN q.polled_at END AS last_use_reported_at,
  l.tracking_started_at AS last_use_tracked_since,
  CASE WHEN list_contains(x.denied_actions, 'kms:ListGrants') OR (k.not_asked AND g.grants IS NULL) THEN NULL
    ELSE coalesce(g.grants, 0) END AS grants,
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
  CASE
    WHEN k.manager IS NULL THEN 'unknown'
    WHEN h.run_id = coalesce(v.read_run_id, as_of_run) AND list_contains(x.denied_actions, 'kms:DescribeKey') IS NOT TRUE THEN 'current'
    ELSE 'stale'
  END AS freshness,
  coalesce(x.denied_actions, CAST([] AS VARCHAR[])) AS denied_actions, x.failure_causes,
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
LEFT JOIN internal.scope_coverage v ON v.run_id = as_of_run AND v.account_id = k.account_id AND v.region = k.region
LEFT JOIN internal.run r ON r.run_id = k.version
