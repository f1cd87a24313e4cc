-- What is unknown about the policy of each customer managed key: each column is a clause with the cause, and NULL if the answer is known.
--! internal
--! stored
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: analysis_id | The analysis of its policy, as in access_verdicts; NULL if there is none.
--: policy_unknown_reason | Why the content of the policy is unknown; NULL if it was read and analyzed.
--: statements_unknown_reason | Why some statements are unknown: as policy_unknown_reason, or a part of the policy could not be parsed.
--: everyone_unknown_reason | Why it is unknown whether a statement allows everyone.
--: external_unknown_reason | Why it is unknown whether a statement allows an account outside the organization.
--: own_account_unknown_reason | Why it is unknown what the policy allows principals of the key's own account.
--: services_unknown_reason | Why it is unknown on whose behalf AWS services may use the key.
--: stale_note | A sentence to append to a reason if the run could not read the policy again; empty text otherwise.
WITH unknown_reason AS (
  SELECT key_arn, statement_index, principal, coalesce(reason, 'no reason was given') AS reason, analysis_id IS NULL AS policy_unknown_reason,
    CASE WHEN principal <> '*' THEN coalesce(principal_account,
      regexp_extract(principal, '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1)) END AS account
  FROM internal.access_paths_as_of(as_of_run)
  WHERE path = 'policy' AND access = 'unknown'
), doubted AS (
  -- A list makes DuckDB estimate few rows, so that the joins below begin with these and not with the principals of all keys.
  SELECT unnest(list(DISTINCT key_arn)) AS key_arn FROM unknown_reason WHERE principal = '*' AND statement_index IS NOT NULL
), party AS (
  SELECT n.key_arn, n.source_id,
    bool_and(n.party IN ('own_account', 'own_organization', 'aws_service', 'deleted_principal') AND n.principal <> '*') AS ours
  FROM key_principals_as_of(as_of_run) n
  JOIN doubted d ON d.key_arn = n.key_arn
  WHERE n.source = 'policy'
  GROUP BY n.key_arn, n.source_id
), statement AS (
  -- A statement that names its principals allows nobody else, whatever else is unknown about it.
  SELECT s.key_arn, s.statement_index, coalesce(n.ours, false) AS ours,
    s.principal_kind = 'Principal' AND NOT list_contains(s.principals, '*') AS named
  FROM doubted d
  JOIN key_policy_statements_as_of(as_of_run) s ON s.key_arn = d.key_arn
  JOIN key_policies_as_of(as_of_run) p ON p.key_arn = s.key_arn AND p.readable
  LEFT JOIN party n ON n.key_arn = s.key_arn AND n.source_id = coalesce(s.sid, '#' || s.statement_index)
), reported AS (
  SELECT d.key_arn,
    min(d.reason) FILTER (d.policy_unknown_reason) AS policy_unknown_reason,
    min(d.reason) FILTER (d.principal = '*' AND s.named IS NOT TRUE) AS everyone_unknown_reason,
    min(d.reason) FILTER ((d.principal = '*' AND s.ours IS NOT TRUE) OR (d.principal <> '*' AND o.account_id IS NULL)) AS external_unknown_reason,
    min(d.reason) FILTER (d.principal = '*' OR d.account = split_part(d.key_arn, ':', 5)) AS own_account_unknown_reason,
    min(d.reason) FILTER (d.principal = '*'
      OR regexp_matches(d.principal, '^[a-z0-9.-]+[.](amazonaws|aws|amazon)[.]')) AS services_unknown_reason
  FROM unknown_reason d
  LEFT JOIN statement s ON s.key_arn = d.key_arn AND s.statement_index = d.statement_index
  LEFT JOIN accounts_as_of(as_of_run) o ON o.account_id = d.account AND o.state IS DISTINCT FROM 'LEFT'
  GROUP BY d.key_arn
), broken AS (
  SELECT p.key_arn, 'a part of the policy cannot be read' AS reason
  FROM internal.key_policy p
  JOIN internal.policy x ON x.policy_hash = p.policy_hash AND NOT x.readable
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
), weighed AS (
  SELECT k.key_arn, k.account_id, k.region, a.analysis_id, t.everyone_unknown_reason, t.external_unknown_reason, t.own_account_unknown_reason, t.services_unknown_reason, b.reason AS broken,
    coalesce(t.policy_unknown_reason, CASE WHEN NOT k.policy_known THEN 'the policy was not read' END) AS policy_unknown_reason,
    CASE WHEN k.policy_known AND (k.last_seen_run IS DISTINCT FROM coalesce(v.read_run_id, as_of_run)
        OR list_contains(k.denied_actions, 'kms:GetKeyPolicy'))
      THEN ' This is the last known policy.' ELSE '' END AS stale_note
  FROM keys_as_of(as_of_run) k
  LEFT JOIN internal.scope_coverage v ON v.run_id = as_of_run AND v.account_id = k.account_id AND v.region = k.region
  LEFT JOIN internal.key_analysis a ON a.key_arn = k.key_arn AND internal.known(a.valid_from, a.valid_to, as_of_run)
  LEFT JOIN reported t ON t.key_arn = k.key_arn
  LEFT JOIN broken b ON b.key_arn = k.key_arn
  WHERE k.manager IS DISTINCT FROM 'AWS'
)
SELECT key_arn, account_id, region, analysis_id, policy_unknown_reason, coalesce(broken, policy_unknown_reason) AS statements_unknown_reason,
  coalesce(policy_unknown_reason, everyone_unknown_reason) AS everyone_unknown_reason, coalesce(policy_unknown_reason, external_unknown_reason) AS external_unknown_reason,
  coalesce(policy_unknown_reason, own_account_unknown_reason) AS own_account_unknown_reason, coalesce(policy_unknown_reason, services_unknown_reason) AS services_unknown_reason, stale_note
FROM weighed
