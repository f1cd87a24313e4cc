-- The principals named in key policies, and the grantees of grants, without a row for each of the keys that have the same policy.
--! internal
--: policy_hash | The policy; for a grant, that of its key; NULL if unknown.
--: account_id | The account of the keys.
--: source | policy or grant.
--: statement_index | The statement of the policy; NULL for grants.
--: effect | Allow or Deny.
--: principal | The principal as written, as in key_principals.
--: principal_type | As in key_principals.
--: principal_account | As in key_principals.
--: party | As in key_principals.
--: party_name | As in key_principals.
--: keys | The number of keys of this account with this policy; for a grant, of those with a grant to the principal.
--: since | When the first of them was first seen.
WITH organization AS (
  SELECT account_id, any_value(name) AS name FROM internal.account a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND a.state IS DISTINCT FROM 'LEFT'
  GROUP BY account_id
), own AS (
  SELECT organization_id FROM internal.run WHERE run_id = as_of_run
), policy AS (
  SELECT p.policy_hash, k.account_id, count(*) AS keys, min(p.valid_from) AS valid_from
  FROM internal.key_policy p
  JOIN internal.key k ON k.key_arn = p.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
  GROUP BY ALL
), granted AS (
  -- Not count(DISTINCT key_arn), which takes twice as long.
  SELECT p.policy_hash, k.account_id, g.grantee_principal, g.grantee_service_principal, count(*) AS keys, min(g.valid_from) AS valid_from
  FROM (
    SELECT key_arn, grantee_principal, grantee_service_principal, min(valid_from) AS valid_from FROM internal.key_grant g
    WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
    GROUP BY ALL
  ) AS g
  JOIN internal.key k ON k.key_arn = g.key_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
  LEFT JOIN internal.key_policy p ON p.key_arn = g.key_arn AND internal.known(p.valid_from, p.valid_to, as_of_run)
  GROUP BY ALL
), written AS (
  SELECT p.policy_hash, p.account_id, 'policy' AS source, n.statement_index, s.effect, n.principal, n.type, n.account,
    n.organization, p.keys, p.valid_from
  FROM policy p
  JOIN internal.policy_principal n USING (policy_hash)
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
  UNION ALL
  SELECT g.policy_hash, g.account_id, 'grant', NULL, 'Allow', coalesce(g.grantee_service_principal, g.grantee_principal) AS principal,
    CASE WHEN g.grantee_service_principal IS NOT NULL THEN 'service' ELSE coalesce(n.type, 'unknown') END AS type,
    CASE WHEN g.grantee_service_principal IS NULL THEN n.account END AS account, NULL, g.keys, g.valid_from
  FROM granted g
  LEFT JOIN internal.principal_dim n ON n.principal = g.grantee_principal
)
SELECT w.policy_hash, w.account_id, w.source, w.statement_index, w.effect, w.principal, w.type AS principal_type,
  w.account AS principal_account,
  internal.party_of(w.type, w.account, w.organization, w.account_id, own.organization_id, o.account_id IS NOT NULL,
    y.account_id IS NOT NULL) AS party,
  CASE
    WHEN w.type = 'service' THEN w.principal
    ELSE coalesce(o.name, y.name, w.organization)
  END AS party_name,
  w.keys, r.started_at AS since
FROM written w
LEFT JOIN own ON true
LEFT JOIN organization o ON o.account_id = w.account
LEFT JOIN internal.known_party y ON y.account_id = w.account
LEFT JOIN internal.run r ON r.run_id = w.valid_from
