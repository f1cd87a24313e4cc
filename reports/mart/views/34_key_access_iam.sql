-- The users and roles that can use a key because its policy delegates the decision to IAM policies. Filter by key, account or principal: administrators have a row for each key of their account. Accounts whose IAM data is unknown have no rows (see iam_accounts).
--! internal
--: key_arn | The key.
--: account_id | The key's account.
--: access | owner_delegated, or unknown if a condition, policy or boundary could not be evaluated. Service and resource control policies and session policies are not evaluated; they can restrict access further.
--: principal | The user or role.
--: operations | The operations it can perform: allowed by this policy, delegated by the key policy, not denied, within the boundary.
--: path | iam.
--: source_id | The name of the IAM policy.
--: reason | Why access is unknown; empty if it is known.
--: message | The row as a sentence.
WITH delegated AS (
  SELECT p.key_arn, split_part(p.key_arn, ':', 5) AS account_id,
    list_distinct(flatten(list(CAST(CAST(v.operations AS JSON) AS VARCHAR[])))) AS operations
  FROM internal.access_paths_as_of(as_of_run) p
  JOIN internal.access_verdict v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
  WHERE p.access = 'owner_delegated'
  GROUP BY p.key_arn
), applied AS (
  SELECT principal_arn, account_id, source = 'boundary' AS boundary, policy_name AS policy, policy_hash
  FROM internal.applied_policies_as_of(as_of_run)
), said AS (
  SELECT d.key_arn, d.account_id, a.principal_arn, a.boundary, a.policy, a.policy_hash IS NULL OR s.allow AS allow,
    CASE WHEN a.policy_hash IS NULL THEN 'the policy is not known' ELSE s.reason END AS reason,
    CASE WHEN a.policy_hash IS NULL THEN d.operations ELSE list_intersect(s.operations, d.operations) END AS operations
  FROM delegated d
  JOIN applied a ON a.account_id = d.account_id
  LEFT JOIN internal.identity_statement s ON s.policy_hash = a.policy_hash
  WHERE a.policy_hash IS NULL OR (list_contains(s.patterns, '.*')
      OR len(list_filter(s.patterns, lambda pattern: regexp_full_match(d.key_arn, pattern))) > 0) <> s.not_resource
), bound AS (
  SELECT a.principal_arn, d.key_arn,
    coalesce(flatten(list(s.operations) FILTER (s.allow AND s.reason IS NULL)), CAST([] AS VARCHAR[])) AS certain,
    coalesce(flatten(list(s.operations) FILTER (s.allow)), CAST([] AS VARCHAR[])) AS possible
  FROM applied a
  JOIN delegated d ON d.account_id = a.account_id
  LEFT JOIN said s ON s.principal_arn = a.principal_arn AND s.key_arn = d.key_arn AND s.boundary
  WHERE a.boundary
  GROUP BY a.principal_arn, d.key_arn
), denied AS (
  SELECT principal_arn, key_arn,
    coalesce(flatten(list(operations) FILTER (reason IS NULL)), CAST([] AS VARCHAR[])) AS certain,
    flatten(list(operations)) AS possible
  FROM said
  WHERE NOT allow
  GROUP BY principal_arn, key_arn
), allowed AS (
  SELECT key_arn, account_id, principal_arn, policy,
    coalesce(flatten(list(operations) FILTER (reason IS NULL)), CAST([] AS VARCHAR[])) AS certain,
    flatten(list(operations)) AS possible, min(reason) AS reason
  FROM said
  WHERE allow AND NOT boundary
  GROUP BY key_arn, account_id, principal_arn, policy
), weighed AS (
  SELECT a.key_arn, a.account_id, a.principal_arn, a.policy, a.reason,
    list_sort(list_distinct(list_filter(a.certain, lambda one: NOT list_contains(coalesce(r.possible, []), one)
      AND (b.key_arn IS NULL OR list_contains(b.certain, one))))) AS certain,
    list_sort(list_distinct(list_filter(a.possible, lambda one: NOT list_contains(coalesce(r.certain, []), one)
      AND (b.key_arn IS NULL OR list_contains(b.possible, one))))) AS possible
  FROM allowed a
  LEFT JOIN denied r ON r.principal_arn = a.principal_arn AND r.key_arn = a.key_arn
  LEFT JOIN bound b ON b.principal_arn = a.principal_arn AND b.key_arn = a.key_arn
), reported AS (
  -- Refers to weighed only once: the macro contains a copy of it for each reference.
  SELECT key_arn, account_id, c.access, principal_arn AS principal,
    CASE c.access WHEN 'unknown' THEN list_filter(possible, lambda one: NOT list_contains(certain, one)) ELSE certain
    END AS operations,
    policy AS source_id,
    CASE c.access WHEN 'unknown' THEN coalesce(reason, 'a condition of a Deny or of the permissions boundary is not evaluated')
      ELSE '' END AS reason
  FROM weighed
  CROSS JOIN (VALUES ('owner_delegated'), ('unknown')) AS c(access)
)
SELECT key_arn, account_id, access, principal, operations, 'iam' AS path, source_id, reason,
  CASE WHEN access = 'unknown' THEN 'It is not known whether ' || principal || ' can ' ELSE principal || ' can ' END
  || array_to_string(operations, ', ') || ' through IAM policy ' || source_id
  || CASE WHEN access = 'unknown' THEN ': ' || reason ELSE '' END
  || '; service and resource control policies are not evaluated.' AS message
FROM reported
WHERE len(operations) > 0
