-- The access paths to keys, one row per path, without texts: the basis of key_access, faster for all keys at once.
--! internal
--! stored
--: key_arn | The key.
--: path | policy, grant or iam.
--: source_id | The statement's Sid, or # and its index (from 0); or the grant ID; empty if unknown.
--: statement_index | The index of the statement in the policy, from 0.
--: principal | The principal, as the policy or grant names it; * for everyone who meets its conditions.
--: principal_account | The account of the principal.
--: access | The relation of the principal to the owner of the key; see key_access.
--: party | The name of the known party, or of the account in the organization.
--: analysis_id | The analysis that found this path; NULL if it could not be evaluated.
--: ordinal | The number of the result in that analysis.
--: constraints | The constraints of a grant, as JSON.
--: reason | Why it could not be evaluated.
--: alternative_paths | Other paths (source_id) through which the same principal has some of the same access, at most 8 of a kind.
--: since_run | The run since which this principal has had access, through any policy version or grant.
WITH own AS (
  SELECT account_id, any_value(name) AS name FROM internal.account a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND a.state IS DISTINCT FROM 'LEFT'
  GROUP BY account_id
), named AS (
  SELECT operations, unnest(CAST(CAST(operations AS JSON) AS VARCHAR[])) AS operation
  FROM (SELECT DISTINCT operations FROM internal.access_verdict) AS written
), numbered AS (
  -- As bits, because sets of operations are compared for millions of access paths. There are some fifty operations; if there
  -- are more than 63, the others share the last bit.
  SELECT operation, least(row_number() OVER (ORDER BY operation) - 1, 62) AS bit
  FROM (SELECT DISTINCT operation FROM named) AS every
), masked AS (
  SELECT n.operations, bit_or(CAST(1 AS BIGINT) << CAST(b.bit AS BIGINT)) AS mask
  FROM named n
  JOIN numbered b ON b.operation = n.operation
  GROUP BY n.operations
), verdict AS (
  SELECT v.analysis_id, v.ordinal, v.access, v.principal, v.principal_account, v.source_id, v.statement_index, v.reason,
    coalesce(m.mask, 0) AS mask
  FROM internal.access_verdict v
  LEFT JOIN masked m ON m.operations = v.operations
), present AS (
  SELECT k.key_arn, k.account_id, m.manager, m.key_spec, m.key_usage, a.analysis_id, k.valid_from
  FROM internal.key k
  LEFT JOIN internal.key_metadata m ON m.key_arn = k.key_arn AND internal.known(m.valid_from, m.valid_to, as_of_run)
  LEFT JOIN internal.key_analysis a ON a.key_arn = k.key_arn AND internal.known(a.valid_from, a.valid_to, as_of_run)
  WHERE internal.known(k.valid_from, k.valid_to, as_of_run)
), grant_of AS (
  SELECT g.key_arn, g.grant_id, g.grantee_principal, g.retiring_principal, g.constraints, g.valid_from,
    internal.grant_shape(k.account_id, k.key_spec, k.key_usage, d.deny_scope, k.analysis_id,
      CASE WHEN contains(d.context_inputs, 'organization') THEN e.identity ELSE '' END, g.grantee_principal, g.grantee_service_principal,
      g.retiring_principal, g.retiring_service_principal, g.issuing_account, g.operations, g.constraints) AS analysis_id
  FROM internal.key_grant g
  JOIN present k ON k.key_arn = g.key_arn
  LEFT JOIN internal.access_analysis x ON x.analysis_id = k.analysis_id
  LEFT JOIN internal.access_policy d ON d.policy_hash = x.policy_hash
  LEFT JOIN internal.analysis_watermark e ON e.name = 'organization'
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
), denied AS (
  SELECT g.subject AS key_arn, g.operation, min(coalesce(z.text, g.cause)) AS reason, min(g.valid_from) AS valid_from
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND g.operation IN ('GetKeyPolicy', 'ListGrants')
    AND g.subject <> ''
  GROUP BY g.subject, g.operation
), evaluated AS (
  SELECT k.key_arn, 'policy' AS path, v.source_id, v.statement_index, v.principal, v.principal_account, v.access, v.mask,
    v.analysis_id, v.ordinal, NULL AS constraints, v.reason, a.valid_from
  FROM present k
  JOIN verdict v ON v.analysis_id = k.analysis_id
  JOIN internal.key_analysis a ON a.key_arn = k.key_arn AND internal.known(a.valid_from, a.valid_to, as_of_run)
  UNION ALL
  SELECT g.key_arn, 'grant', g.grant_id, NULL,
    CASE v.principal WHEN '{grantee}' THEN g.grantee_principal WHEN '{retiring}' THEN g.retiring_principal
      ELSE v.principal END,
    v.principal_account, v.access, v.mask, v.analysis_id, v.ordinal, g.constraints, v.reason, g.valid_from
  FROM grant_of g
  JOIN verdict v ON v.analysis_id = g.analysis_id
), held AS (
  SELECT j.*,
    CASE WHEN j.principal = '*' THEN concat_ws(' ', '*', j.access, j.principal_account)
      ELSE regexp_replace(j.principal, '^arn:[a-z-]+:iam::([0-9]{12}):root$', '\1') END AS principal_key,
    j.principal_account IS NOT NULL AND (j.principal = '*' OR regexp_full_match(j.principal, '[0-9]{12}|.*:root')) AS wide,
    internal.standing(j.access, j.principal_account, o.account_id IS NOT NULL, y.account_id IS NOT NULL) AS standing,
    coalesce(o.name, y.name) AS party
  FROM evaluated j
  LEFT JOIN own o ON o.account_id = j.principal_account
  LEFT JOIN internal.known_party y ON y.account_id = j.principal_account
), repeated AS (
  SELECT hash(key_arn, principal_key) AS pair FROM held GROUP BY pair HAVING count(*) > 1
), same AS (
  -- By the whole value: of several rows with one source, the same ones have to be chosen whenever a mart is built.
  SELECT key_arn, principal_key, min({'source_id': source_id, 'mask': mask}, 9) AS ways
  FROM held
  WHERE hash(key_arn, principal_key) IN (SELECT pair FROM repeated) AND access NOT IN ('unknown', 'deleted')
  GROUP BY key_arn, principal_key
), throughout AS (
  SELECT key_arn, principal_account, min({'source_id': source_id, 'mask': mask}, 9) AS ways
  FROM held
  WHERE wide AND access NOT IN ('unknown', 'deleted')
  GROUP BY key_arn, principal_account
), everyone AS (
  SELECT key_arn,
    min({'source_id': source_id, 'mask': mask}, 9) FILTER (access <> 'organization') AS ways,
    min({'source_id': source_id, 'mask': mask}, 9) FILTER (access = 'organization') AS our_ways
  FROM held
  WHERE access IN ('public', 'public_via_service') OR (access = 'organization' AND principal_account IS NULL)
  GROUP BY key_arn
), span AS (
  SELECT a.key_arn, v.principal_key, a.valid_from, a.valid_to
  FROM internal.key_analysis a
  JOIN (
    SELECT DISTINCT analysis_id, CASE WHEN principal = '*' THEN concat_ws(' ', '*', access, principal_account)
      ELSE regexp_replace(principal, '^arn:[a-z-]+:iam::([0-9]{12}):root$', '\1') END AS principal_key
    FROM internal.access_verdict
    WHERE access <> 'unknown'
  ) v ON v.analysis_id = a.analysis_id
  WHERE a.valid_from <= as_of_run
  UNION ALL
  SELECT g.key_arn, regexp_replace(coalesce(g.grantee_service_principal, g.grantee_principal),
      '^arn:[a-z-]+:iam::([0-9]{12}):root$', '\1'), g.valid_from, g.valid_to
  FROM internal.key_grant g
  WHERE g.valid_from <= as_of_run
), again AS (
  SELECT hash(key_arn, principal_key) AS pair FROM span GROUP BY pair HAVING count(*) > 1
), island AS (
  SELECT key_arn, principal_key, max(valid_from) FILTER (NOT joined) AS since_run
  FROM (
    SELECT key_arn, principal_key, valid_from,
      coalesce(valid_from <= max(coalesce(valid_to, 2147483647)) OVER (
        PARTITION BY key_arn, principal_key ORDER BY valid_from, valid_to NULLS LAST
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS joined
    FROM span
    WHERE hash(key_arn, principal_key) IN (SELECT pair FROM again)
  ) AS ordered
  GROUP BY key_arn, principal_key
)
SELECT h.key_arn, h.path, h.source_id, h.statement_index, h.principal, h.principal_account, h.standing AS access, h.party, h.analysis_id, h.ordinal,
  h.constraints, h.reason,
  CASE WHEN h.access IN ('unknown', 'deleted') THEN CAST([] AS VARCHAR[])
    ELSE list_sort(list_distinct(list_transform(list_filter(
      list_concat(coalesce(s.ways, []), coalesce(t.ways, []),
        CASE WHEN h.access = 'aws_service' THEN [] ELSE coalesce(e.ways, []) END,
        CASE WHEN h.standing IN ('organization', 'owner_direct') THEN coalesce(e.our_ways, []) ELSE [] END),
      lambda way: way.source_id <> h.source_id AND (way.mask & h.mask) <> 0), lambda way: way.source_id)))
  END AS alternative_paths,
  coalesce(i.since_run, h.valid_from) AS since_run
FROM held h
LEFT JOIN same s ON s.key_arn = h.key_arn AND s.principal_key = h.principal_key
LEFT JOIN throughout t ON t.key_arn = h.key_arn AND t.principal_account = h.principal_account
LEFT JOIN everyone e ON e.key_arn = h.key_arn
LEFT JOIN island i ON i.key_arn = h.key_arn AND i.principal_key = h.principal_key AND h.access <> 'unknown'
UNION ALL
SELECT k.key_arn, 'policy', '', NULL, '*', NULL, 'unknown', NULL, NULL, NULL, NULL,
  CASE
    WHEN p.key_arn IS NOT NULL THEN 'the policy was not analyzed: run `kmsledger analyze-access`'
    WHEN r.reason IS NOT NULL THEN 'the policy could not be read: ' || r.reason
    WHEN k.manager = 'AWS' THEN 'the policies of AWS managed keys are not requested'
    ELSE 'the policy was not read'
  END, CAST([] AS VARCHAR[]), coalesce(p.valid_from, r.valid_from, k.valid_from)
FROM present k
LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, as_of_run)
LEFT JOIN denied r ON r.key_arn = k.key_arn AND r.operation = 'GetKeyPolicy'
WHERE k.analysis_id IS NULL
UNION ALL
SELECT r.key_arn, 'grant', '', NULL, '*', NULL, 'unknown', NULL, NULL, NULL, NULL,
  'the grants could not be read: ' || r.reason, CAST([] AS VARCHAR[]), r.valid_from
FROM denied r
JOIN present k ON k.key_arn = r.key_arn
WHERE r.operation = 'ListGrants'
UNION ALL
SELECT g.key_arn, 'grant', g.grant_id, NULL, coalesce(g.grantee_principal, '*'), NULL, 'unknown', NULL, NULL, NULL,
  g.constraints, 'the grant was not analyzed: run `kmsledger analyze-access`', CAST([] AS VARCHAR[]), g.valid_from
FROM grant_of g
WHERE NOT EXISTS (FROM internal.access_analysis x WHERE x.analysis_id = g.analysis_id)
