-- The open findings that need attention, each with the situation (root cause) it belongs to: all failed and unknown findings of
-- critical and high severity, failed findings about missing data, and new access of external parties. All findings of a resource belong to
-- one situation.
--! columns of findings_without_history except family, unwaived_status, resource_type, ou_path, waiver, waived_until
--: situation_id | The situation; it stays the same from run to run.
--: kind | key (a key that is going, gone or unusable, with what depends on it), access (a party has or gained access), vendor (a vendor lacks something), rule (another cause, by rule) or coverage (data is missing).
--: cause | What identifies the situation: the key (unused and the state for keys that nothing is known to use), the parties, the rule, or the reason why data is missing (rule and its ID if none is recorded).
--: parties | For access and vendor: the parties, Everyone included.
--: status | fail or unknown.
--: owner | The owner of the resource, else of the key, else of the account.
--: reason | The reason, as one sentence.
WITH topic(rule_id, kind, access, operation) AS (
  -- The rules that are not about a key's state, with the access paths that they find.
  VALUES ('key-policy-public', 'access', ['public'], NULL),
    ('key-public-via-service', 'access', ['public_via_service'], NULL),
    ('key-external-access', 'access', ['external'], NULL),
    ('key-external-create-grant', 'access', ['external', 'vendor', 'public', 'public_via_service'], 'kms:CreateGrant'),
    ('grant-external', 'access', ['external'], NULL),
    ('secret-public', 'access', [], NULL),
    ('secret-cross-account', 'access', [], NULL),
    ('vendor-over-shared', 'access', [], NULL),
    ('vendor-access-new', 'access', ['external', 'vendor'], NULL),
    ('vendor-key-usable', 'vendor', [], NULL),
    ('vendor-profile', 'vendor', [], NULL),
    ('vendor-external-id', 'vendor', [], NULL),
    ('account-not-crawled', 'coverage', [], NULL),
    ('region-not-read', 'coverage', [], NULL),
    ('operation-denied', 'coverage', [], NULL),
    ('key-policies-unread', 'coverage', [], NULL)
), finding AS MATERIALIZED (
  SELECT f.*, t.kind, t.access, t.operation
  FROM internal.findings_without_history_as_of(as_of_run) f
  LEFT JOIN topic t ON t.rule_id = f.rule_id
  WHERE f.status IN ('fail', 'unknown') AND (f.severity IN ('critical', 'high')
    OR (f.status = 'fail' AND (t.kind = 'coverage' OR f.rule_id = 'vendor-access-new')))
), key_use AS NOT MATERIALIZED (
  -- A reference to a key that does not exist may name it by its alias only.
  SELECT resource_arn, account_id, region, key_class, reason, coalesce(key_arn, CASE WHEN key_class = 'dangling' THEN
    CASE WHEN starts_with(raw_value, 'arn:') THEN raw_value ELSE array_to_string(string_split(resource_arn, ':')[1:2], ':')
      || ':kms:' || region || ':' || account_id || ':' || raw_value END END) AS key_arn
  FROM resource_keys_as_of(as_of_run)
), failing_key AS (
  SELECT k.key_arn, k.state, coalesce(k.grants > 0, false) OR coalesce(p.in_use, k.last_use = 'used', false) AS is_used,
    CASE WHEN k.state = 'Enabled' THEN k.material_expires_at ELSE k.deletion_date END AS deadline
  FROM keys_as_of(as_of_run) k
  JOIN internal.run r ON r.run_id = as_of_run
  LEFT JOIN internal.pending_deletions_as_of(as_of_run) p ON p.key_arn = k.key_arn
  WHERE k.state NOT IN ('Enabled', 'Creating', 'Updating')
    OR (k.state = 'Enabled' AND k.material_expires_at < r.started_at + INTERVAL 30 DAY)
  UNION ALL
  SELECT key_arn, 'deleted', false, NULL
  FROM (
    SELECT key_arn FROM key_use WHERE key_class = 'dangling'
    UNION
    SELECT resource_arn FROM finding WHERE status = 'fail' AND regexp_full_match(resource_arn, 'arn:[^:]+:kms:[^:]+:[0-9]+:key/[^#]+')
  ) AS missing
  WHERE key_arn NOT IN (SELECT key_arn FROM keys_as_of(as_of_run))
), vendor_result AS (
  SELECT DISTINCT vendor, key_arn, result, coalesce(key_arn, CASE WHEN starts_with(subject, 'arn:') THEN subject END,
    account_id || '/' || region, account_id, profile) AS resource_arn
  FROM vendor_checks_as_of(as_of_run)
  WHERE result IN ('broken', 'blocked_by_policy', 'over_shared', 'wrong')
), used_key AS (
  SELECT key_arn FROM key_use WHERE key_arn IN (SELECT key_arn FROM failing_key)
  UNION
  SELECT key_arn FROM vendor_result WHERE result = 'broken'
), key_cause AS (
  -- The key of each resource that fails because of it; of several keys, the one that is lost first.
  SELECT resource_arn, arg_min({'key': cause, 'deadline': deadline}, {'deadline': coalesce(deadline, 'infinity'), 'key': cause}).key AS cause
  FROM (
    SELECT s.resource_arn, k.deadline,
      CASE WHEN NOT k.is_used AND u.key_arn IS NULL THEN 'unused ' || k.state ELSE k.key_arn END AS cause
    FROM (
      SELECT resource_arn, status, kind, unnest([key_arn, resource_arn]) AS key_arn FROM finding
      UNION
      SELECT f.resource_arn, f.status, f.kind, u.key_arn FROM finding f JOIN key_use u ON u.resource_arn = f.resource_arn
    ) AS s
    JOIN failing_key k ON k.key_arn = s.key_arn
    LEFT JOIN used_key u ON u.key_arn = k.key_arn
    -- Nobody misses an unused key that is merely disabled.
    WHERE NOT starts_with(cause, 'unused ') OR k.deadline IS NOT NULL OR k.state IN ('PendingDeletion', 'PendingReplicaDeletion')
    -- A deletion is also a situation if it is unknown whether something uses the key.
    QUALIFY starts_with(cause, 'unused ')
      OR bool_or(s.status = 'fail' AND coalesce(s.kind, '') NOT IN ('access', 'coverage')) OVER (PARTITION BY cause)
  ) AS candidate
  GROUP BY resource_arn
), access_party AS (
  SELECT p.key_arn, p.access, p.source_id, p.since_run, v.operations,
    CASE WHEN p.access IN ('public', 'public_via_service') THEN 'Everyone'
      ELSE coalesce(p.party, 'account ' || p.principal_account, p.principal) END AS party
  FROM internal.access_paths_as_of(as_of_run) p
  LEFT JOIN internal.access_verdict v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
  WHERE internal.from_outside(p.access)
    AND p.key_arn IN (SELECT key_arn FROM finding WHERE kind = 'access' AND status = 'fail')
), party AS (
  SELECT f.resource_arn, f.kind, f.severity, p.party
  FROM finding f
  JOIN access_party p ON p.key_arn = f.key_arn AND list_contains(f.access, p.access)
    AND (f.operation IS NULL OR contains(p.operations, f.operation))
    AND (NOT contains(f.resource_arn, '#grant/') OR p.source_id = split_part(f.resource_arn, '#grant/', 2))
  WHERE f.status = 'fail'
  QUALIFY f.rule_id <> 'vendor-access-new' OR p.since_run = max(p.since_run) OVER (PARTITION BY f.resource_arn, f.rule_id)
  UNION ALL
  SELECT f.resource_arn, f.kind, f.severity, v.vendor
  FROM finding f
  JOIN vendor_result v ON v.resource_arn = f.resource_arn AND (v.result = 'over_shared') = (f.rule_id = 'vendor-over-shared')
  WHERE f.status = 'fail' AND f.rule_id IN ('vendor-over-shared', 'vendor-key-usable', 'vendor-profile', 'vendor-external-id')
  UNION ALL
  SELECT f.resource_arn, f.kind, f.severity,
    unnest(list_concat(CASE WHEN s.is_public THEN ['Everyone'] ELSE [] END,
      list_transform(s.external, lambda account: 'account ' || account), s.parties, s.organization))
  FROM finding f
  JOIN internal.secret_readers_as_of(as_of_run) s ON s.resource_arn = f.resource_arn
  WHERE f.status = 'fail' AND f.rule_id IN ('secret-public', 'secret-cross-account')
), party_cause AS (
  -- Those of the most severe finding; excess access comes first.
  SELECT resource_arn, kind, list_sort(list(DISTINCT party)) AS parties
  FROM (
    SELECT * FROM party
    QUALIFY rank() OVER (PARTITION BY resource_arn ORDER BY internal.severity_rank(severity), kind) = 1
  ) AS chosen
  GROUP BY resource_arn, kind
), rule_cause AS (
  -- The most severe rule; of several, the most specific: the one that fails for the fewest resources.
  SELECT resource_arn, arg_min(rule_id, {'rank': rank, 'resources': resources, 'rule_id': rule_id}) AS cause
  FROM (
    SELECT resource_arn, rule_id, internal.severity_rank(severity) AS rank, count(*) OVER (PARTITION BY rule_id) AS resources
    FROM finding WHERE status = 'fail' AND kind IS DISTINCT FROM 'coverage'
  ) AS failed
  GROUP BY resource_arn
), lost AS (
  SELECT account_id, region, min(cause_text) AS reason FROM coverage_as_of(as_of_run) WHERE outcome = 'failed' GROUP BY ALL
), gap AS (
  SELECT account_id, region, key_arn, min(cause_text) AS reason
  FROM coverage_as_of(as_of_run)
  WHERE outcome = 'gap' AND cause NOT IN ('disabled_by_config', 'region_excluded', 'unsupported')
  GROUP BY ALL
), missing AS (
  -- Why data about each resource is missing: its account or region, its key, the account of its key, or a rule.
  SELECT f.resource_arn,
    coalesce(min(l.reason), min(g.reason), min(kl.reason), min(kg.reason), min(u.reason), min(r.reason), 'rule ' || min(f.rule_id)) AS cause
  FROM finding f
  LEFT JOIN lost l ON l.account_id = f.account_id AND (l.region IN (f.region, '*') OR f.resource_arn = f.account_id)
  LEFT JOIN gap g ON g.key_arn = f.key_arn
  LEFT JOIN key_use u ON u.resource_arn = f.resource_arn AND u.key_class IN ('unknown', 'not_crawled')
  LEFT JOIN lost kl ON kl.account_id = split_part(u.key_arn, ':', 5) AND kl.region IN (split_part(u.key_arn, ':', 4), '*')
  LEFT JOIN gap kg ON kg.key_arn = u.key_arn
  LEFT JOIN gap r ON f.kind = 'coverage' AND r.account_id = f.account_id AND r.region = f.region
  GROUP BY f.resource_arn
), resource AS (
  SELECT resource_arn, bool_or(status = 'fail' AND kind = 'coverage') AS is_coverage, bool_or(status = 'fail') AS is_failing
  FROM finding GROUP BY resource_arn
), situation AS (
  SELECT o.resource_arn, p.parties,
    CASE WHEN k.cause IS NOT NULL THEN 'key' WHEN o.is_coverage OR NOT o.is_failing THEN 'coverage'
      ELSE coalesce(p.kind, 'rule') END AS kind,
    CASE WHEN k.cause IS NOT NULL THEN k.cause WHEN o.is_coverage OR NOT o.is_failing THEN m.cause
      ELSE coalesce(array_to_string(p.parties, ', '), r.cause) END AS cause
  FROM resource o
  LEFT JOIN key_cause k ON k.resource_arn = o.resource_arn
  LEFT JOIN party_cause p ON p.resource_arn = o.resource_arn
  LEFT JOIN rule_cause r ON r.resource_arn = o.resource_arn
  LEFT JOIN missing m ON m.resource_arn = o.resource_arn
)
SELECT left(md5(s.kind || ' ' || s.cause), 12) AS situation_id, s.kind, s.cause,
  CASE WHEN s.kind IN ('access', 'vendor') THEN s.parties END AS parties,
  f.rule_id, f.title, f.severity, f.status, f.resource_arn,
  CASE WHEN f.resource_type = 'account-region'
    THEN coalesce(f.account_name, f.account_id) || CASE WHEN f.region = 'global' THEN '' ELSE ', ' || f.region END
    ELSE f.resource_name END AS resource_name, f.account_id, f.account_name, f.region, f.key_arn, f.owner, f.reason
FROM finding f
JOIN situation s ON s.resource_arn = f.resource_arn
