-- The number of parties outside the organization that had access in each of the runs $run_ids, as external_access.sql counts them.
WITH own AS (
    SELECT account_id FROM accounts WHERE state IS DISTINCT FROM 'LEFT'
),
verdict AS (
    SELECT v.analysis_id, CASE v.access WHEN 'external' THEN coalesce(y.name, v.principal_account, v.principal) ELSE 'Everyone' END AS party
    FROM internal.access_verdict AS v
    LEFT JOIN internal.known_party AS y ON y.account_id = v.principal_account
    WHERE v.access IN ('public', 'public_via_service')
        OR (v.access = 'external' AND coalesce(v.principal_account, '') NOT IN (FROM own))
),
policy AS (
    SELECT key_arn, analysis_id, valid_from, coalesce(valid_to, 2147483647) AS valid_to
    FROM internal.key_analysis
    WHERE valid_to IS NULL OR valid_to > $run_ids[1]
),
-- Only principals of accounts are parties. Few grants name one outside the organization.
external_grantee AS MATERIALIZED (
    SELECT principal FROM internal.principal_dim WHERE nullif(internal.account_of(principal), '') NOT IN (FROM own)
),
external_grant AS MATERIALIZED (
    SELECT *
    FROM internal.key_grant
    WHERE grantee_principal IN (FROM external_grantee)
        OR nullif(internal.account_of(retiring_principal), '') NOT IN (FROM own)
        OR nullif(internal.account_of(issuing_account), '') NOT IN (FROM own)
),
-- A grant has an analysis with each policy that its key had, because a Deny in the policy can restrict it.
granted AS (
    SELECT internal.grant_shape(k.account_id, m.key_spec, m.key_usage, d.deny_scope, p.analysis_id,
            CASE WHEN contains(d.context_inputs, 'organization') THEN e.identity ELSE '' END, g.grantee_principal, g.grantee_service_principal,
            g.retiring_principal, g.retiring_service_principal, g.issuing_account, g.operations, g.constraints) AS analysis_id,
        greatest(g.valid_from, p.valid_from) AS valid_from, least(coalesce(g.valid_to, 2147483647), p.valid_to) AS valid_to
    FROM external_grant AS g
    JOIN policy AS p ON p.key_arn = g.key_arn AND p.valid_from < coalesce(g.valid_to, 2147483647) AND g.valid_from < p.valid_to
    JOIN internal.key AS k ON k.key_arn = g.key_arn AND internal.known(k.valid_from, k.valid_to, g.valid_from)
    LEFT JOIN internal.key_metadata AS m ON m.key_arn = g.key_arn AND internal.known(m.valid_from, m.valid_to, g.valid_from)
    LEFT JOIN internal.access_analysis AS x ON x.analysis_id = p.analysis_id
    LEFT JOIN internal.access_policy AS d ON d.policy_hash = x.policy_hash
    LEFT JOIN internal.analysis_watermark AS e ON e.name = 'organization'
),
span AS (
    SELECT DISTINCT v.party, a.valid_from, a.valid_to
    FROM (SELECT analysis_id, valid_from, valid_to FROM policy UNION ALL FROM granted) AS a
    JOIN verdict AS v ON v.analysis_id = a.analysis_id
)
SELECT r.run_id, count(DISTINCT s.party) AS parties
FROM (SELECT unnest($run_ids) AS run_id) AS r
LEFT JOIN span AS s ON s.valid_from <= r.run_id AND s.valid_to > r.run_id
WHERE r.run_id >= (SELECT min(valid_from) FROM internal.key_analysis)
GROUP BY r.run_id
