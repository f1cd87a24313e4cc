-- The principals named in key policies, and the grantees of grants, without a row for each key.
--! internal
--! stored
--: policy_hash | The policy; NULL for grants.
--: account_id | The account of the keys.
--: source | policy or grant.
--: statement_index | The statement of the policy; NULL for grants.
--: effect | Allow or Deny.
--: principal | The principal as written, as in key_principals.
--: principal_type | As in key_principals.
--: principal_account | As in key_principals.
--: party | As in key_principals.
--: party_name | As in key_principals.
--: keys | The number of keys of this account with this policy; for grants, of the keys with a grant to the principal whose policies do not allow it as well.
--: since | When the first of these policies or grants was first seen.
WITH policy AS (
  SELECT policy_hash, row_number() OVER () AS policy_number FROM internal.policy
), granted_key AS (
  -- Numbers instead of texts: millions of grants are grouped by them.
  SELECT k.key_arn, k.account_id, n.policy_number, p.valid_from, row_number() OVER () AS key_number
  FROM internal.key k
  LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, as_of_run)
  LEFT JOIN policy n ON n.policy_hash = p.policy_hash
  WHERE internal.known(k.valid_from, k.valid_to, as_of_run)
), policy_keys AS (
  SELECT policy_number, account_id, count(*) AS keys, min(valid_from) AS valid_from
  FROM granted_key
  WHERE policy_number IS NOT NULL
  GROUP BY ALL
), grantee AS (
  SELECT *, row_number() OVER () AS grantee_number
  FROM (
    SELECT principal, type, account, false AS is_service FROM internal.principal_dim
    UNION ALL
    SELECT DISTINCT grantee_service_principal, 'service', NULL, true FROM internal.key_grant
    WHERE grantee_service_principal IS NOT NULL
  ) AS every
), written AS (
  SELECT n.policy_hash, p.policy_number, p.account_id, n.statement_index, s.effect, n.principal, n.type, n.account, n.organization,
    p.keys, p.valid_from
  FROM policy_keys p
  JOIN policy d USING (policy_number)
  JOIN internal.policy_principal n ON n.policy_hash = d.policy_hash
  JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index
), allowed AS (
  -- The grantees that the policy allows as well, as a principal of the same party.
  SELECT DISTINCT w.policy_number, w.account_id, g.grantee_number
  FROM written w
  JOIN grantee g ON g.principal = w.principal AND g.type = w.type AND g.account IS NOT DISTINCT FROM w.account
  LEFT JOIN internal.run own ON own.run_id = as_of_run
  LEFT JOIN internal.account_names_as_of(as_of_run) o ON o.account_id = w.account
  WHERE w.effect = 'Allow' AND (w.organization IS NULL OR w.type = 'service' OR (o.name IS NOT NULL
    AND internal.party_of(w.type, w.account, w.organization, w.account_id, own.organization_id, o.in_organization, o.is_party)
      = internal.party_of(w.type, w.account, NULL, w.account_id, own.organization_id, o.in_organization, o.is_party)))
), granted AS (
  SELECT g.account_id, g.grantee_number, count(*) FILTER (a.policy_number IS NULL) AS keys, min(g.valid_from) AS valid_from
  FROM (
    SELECT k.key_number, n.grantee_number, any_value(k.account_id) AS account_id, any_value(k.policy_number) AS policy_number,
      min(g.valid_from) AS valid_from
    FROM internal.key_grant g
    JOIN granted_key k ON k.key_arn = g.key_arn
    LEFT JOIN grantee n ON n.principal = coalesce(g.grantee_service_principal, g.grantee_principal)
      AND n.is_service = (g.grantee_service_principal IS NOT NULL)
    WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
    GROUP BY k.key_number, n.grantee_number
  ) AS g
  LEFT JOIN allowed a ON a.policy_number = g.policy_number AND a.account_id = g.account_id AND a.grantee_number = g.grantee_number
  GROUP BY ALL
), every AS (
  SELECT policy_hash, account_id, 'policy' AS source, statement_index, effect, principal, type, account, organization, keys, valid_from
  FROM written
  UNION ALL
  SELECT NULL, g.account_id, 'grant', NULL, 'Allow', n.principal, coalesce(n.type, 'unknown'), n.account, NULL, g.keys, g.valid_from
  FROM granted g
  LEFT JOIN grantee n ON n.grantee_number = g.grantee_number
)
SELECT w.policy_hash, w.account_id, w.source, w.statement_index, w.effect, w.principal, w.type AS principal_type,
  w.account AS principal_account,
  internal.party_of(w.type, w.account, w.organization, w.account_id, own.organization_id, o.in_organization, o.is_party) AS party,
  CASE WHEN w.type = 'service' THEN w.principal ELSE coalesce(o.name, w.organization) END AS party_name,
  w.keys, r.started_at AS since
FROM every w
LEFT JOIN internal.run own ON own.run_id = as_of_run
LEFT JOIN internal.account_names_as_of(as_of_run) o ON o.account_id = w.account
LEFT JOIN internal.run r ON r.run_id = w.valid_from
