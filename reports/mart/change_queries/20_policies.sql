-- Changed policies: compares whole statements, and the principals named by Allow statements.
CREATE TEMP TABLE policy_pair AS
SELECT n.valid_from AS run_id, n.key_arn, k.account_id, k.region, o.policy_hash AS old_hash, n.policy_hash AS new_hash
FROM internal.key_policy n
JOIN internal.key_policy o ON o.key_arn = n.key_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
JOIN known_key k ON k.key_arn = n.key_arn
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND o.policy_hash <> n.policy_hash;

CREATE TEMP TABLE hash_pair AS SELECT DISTINCT old_hash, new_hash FROM policy_pair;

CREATE TEMP TABLE added_statement AS
SELECT p.old_hash, p.new_hash, s.statement_index, s.name, s.canonical
FROM hash_pair p
JOIN internal.policy_statement s ON s.policy_hash = p.new_hash
WHERE NOT EXISTS (FROM internal.policy_statement o WHERE o.policy_hash = p.old_hash AND o.canonical = s.canonical);
CREATE TEMP TABLE removed_statement AS
SELECT p.old_hash, p.new_hash, s.statement_index, s.name, s.canonical
FROM hash_pair p
JOIN internal.policy_statement s ON s.policy_hash = p.old_hash
WHERE NOT EXISTS (FROM internal.policy_statement n WHERE n.policy_hash = p.new_hash AND n.canonical = s.canonical);

CREATE TEMP TABLE opened_principal AS
SELECT p.old_hash, p.new_hash, n.principal, n.type, n.account, n.organization, s.statement_index,
  CASE WHEN s.not_actions THEN ['everything except ' || array_to_string(s.actions, ', ')] ELSE s.actions END AS actions,
  s.canonical
FROM hash_pair p
JOIN internal.policy_principal n ON n.policy_hash = p.new_hash
JOIN internal.policy_statement s ON s.policy_hash = n.policy_hash AND s.statement_index = n.statement_index AND s.effect = 'Allow'
WHERE NOT EXISTS (
  SELECT 1
  FROM internal.policy_principal o
  JOIN internal.policy_statement t ON t.policy_hash = o.policy_hash AND t.statement_index = o.statement_index AND t.effect = 'Allow'
  WHERE o.policy_hash = p.old_hash AND o.type = n.type AND o.account IS NOT DISTINCT FROM n.account
    AND o.organization IS NOT DISTINCT FROM n.organization
    AND (o.principal = n.principal OR n.type = 'account')
);

CREATE TEMP TABLE opened AS
SELECT p.run_id, p.key_arn, p.account_id, p.region, p.old_hash, p.new_hash, n.principal, n.type, n.account,
  n.organization, n.statement_index, n.actions, n.canonical, coalesce(a.name, y.name) AS party_name,
  internal.party_of(n.type, n.account, n.organization, p.account_id, r.organization_id, a.account_id IS NOT NULL,
    y.account_id IS NOT NULL) AS party
FROM policy_pair p
JOIN opened_principal n ON n.old_hash = p.old_hash AND n.new_hash = p.new_hash
JOIN internal.run r ON r.run_id = p.run_id
LEFT JOIN internal.account a ON a.account_id = n.account AND internal.known(a.valid_from, a.valid_to, p.run_id)
  AND a.state IS DISTINCT FROM 'LEFT'
LEFT JOIN internal.known_party y ON y.account_id = n.account;

INSERT INTO stage
SELECT run_id, account_id, region, key_arn, NULL, NULL, 'policy_opened',
  CASE
    WHEN party IN ('own_organization', 'aws_service') THEN 'medium'
    WHEN party = 'known_party' THEN severity_of('vendor-access-new')
    -- Conditions may exclude everyone else; the access analysis evaluates them.
    WHEN party = 'public' AND NOT bool_and(contains(canonical, '"Condition"')) THEN severity_of('key-policy-public')
    WHEN party = 'public' THEN severity_of('key-public-via-service')
    ELSE severity_of('key-external-access')
  END,
  'The policy of key ',
  ' was opened to ' || CASE
    WHEN organization IS NOT NULL THEN 'organization ' || organization
    WHEN type = 'public' THEN 'everyone'
    WHEN type = 'account' THEN 'account ' || account || coalesce(' (' || any_value(party_name) || ')', '')
    WHEN type IN ('role', 'user', 'session') THEN type || ' ' || principal || coalesce(' (' || any_value(party_name) || ')', '')
    WHEN type = 'service' THEN 'service ' || principal
    ELSE 'principal ' || principal
  END || ': ' || array_to_string(list_sort(list_distinct(flatten(list(actions)))), ', ') || '.',
  false, NULL, '[' || string_agg(canonical, ',' ORDER BY statement_index) || ']', NULL, NULL
FROM opened
WHERE party NOT IN ('own_account', 'deleted_principal')
GROUP BY run_id, account_id, region, key_arn, old_hash, new_hash, party, type, principal, account, organization;

-- Not reported twice: policies with only added statements, each of which is reported as policy_opened.
INSERT INTO stage
SELECT p.run_id, p.account_id, p.region, p.key_arn, NULL, NULL, 'policy_changed', 'medium', 'The policy of key ',
  ' was changed' || CASE WHEN a.names IS NULL AND d.names IS NULL THEN '.' ELSE ':'
    || coalesce(' added ' || array_to_string(a.names, ', '), '')
    || CASE WHEN a.names IS NOT NULL AND d.names IS NOT NULL THEN ';' ELSE '' END
    || coalesce(' removed ' || array_to_string(d.names, ', '), '') || '.' END,
  false,
  coalesce('[' || d.texts || ']', CASE WHEN a.names IS NULL THEN x.canonical END),
  coalesce('[' || a.texts || ']', CASE WHEN d.names IS NULL THEN y.canonical END), NULL, NULL
FROM policy_pair p
LEFT JOIN (
  SELECT old_hash, new_hash, list('statement ' || name ORDER BY statement_index) AS names,
    string_agg(canonical, ',' ORDER BY statement_index) AS texts, list(statement_index ORDER BY statement_index) AS positions
  FROM added_statement GROUP BY old_hash, new_hash
) a ON a.old_hash = p.old_hash AND a.new_hash = p.new_hash
LEFT JOIN (
  SELECT old_hash, new_hash, list('statement ' || name ORDER BY statement_index) AS names,
    string_agg(canonical, ',' ORDER BY statement_index) AS texts
  FROM removed_statement GROUP BY old_hash, new_hash
) d ON d.old_hash = p.old_hash AND d.new_hash = p.new_hash
LEFT JOIN internal.policy_document x ON x.policy_hash = p.old_hash
LEFT JOIN internal.policy_document y ON y.policy_hash = p.new_hash
LEFT JOIN (
  SELECT run_id, key_arn, list(DISTINCT statement_index) AS positions FROM opened
  WHERE party NOT IN ('own_account', 'deleted_principal')
  GROUP BY run_id, key_arn
) o ON o.run_id = p.run_id AND o.key_arn = p.key_arn
WHERE NOT (d.names IS NULL AND a.names IS NOT NULL AND coalesce(list_has_all(o.positions, a.positions), false));

-- Grants, except those created or deleted together with their key.
CREATE TEMP MACRO grant_text(operations, name) AS
  array_to_string(CAST(CAST(operations AS JSON) AS VARCHAR[]), ', ') || coalesce(' (' || name || ')', '');
INSERT INTO stage
SELECT n.valid_from, k.account_id, k.region, n.key_arn, NULL, NULL,
  CASE WHEN o.grant_id IS NULL THEN 'grant_added' ELSE 'grant_changed' END,
  CASE
    WHEN coalesce(p.account, k.account_id) = k.account_id OR a.account_id IS NOT NULL THEN 'low'
    WHEN y.account_id IS NOT NULL THEN severity_of('vendor-access-new')
    ELSE severity_of('grant-external')
  END,
  CASE WHEN o.grant_id IS NULL THEN 'A grant was added to key ' ELSE 'A grant was changed on key ' END,
  ' for ' || coalesce(n.grantee_service_principal, n.grantee_principal, 'an unnamed grantee') || ': '
    || array_to_string(CAST(CAST(n.operations AS JSON) AS VARCHAR[]), ', ') || '.',
  false, grant_text(o.operations, o.name), grant_text(n.operations, n.name), NULL, NULL
FROM internal.key_grant n
JOIN known_key k ON k.key_arn = n.key_arn
LEFT JOIN internal.key_grant o ON o.key_arn = n.key_arn AND o.grant_id = n.grant_id AND o.valid_to = n.valid_from
  AND o.valid_from < n.valid_from
LEFT JOIN internal.principal_dim p ON p.principal = n.grantee_principal
LEFT JOIN internal.known_party y ON y.account_id = p.account
LEFT JOIN internal.account a ON a.account_id = p.account AND internal.known(a.valid_from, a.valid_to, n.valid_from)
  AND a.state IS DISTINCT FROM 'LEFT'
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND n.valid_from > k.crawled_from
  AND NOT EXISTS (FROM key_begins b WHERE b.key_arn = n.key_arn AND b.run_id = n.valid_from)
  AND NOT EXISTS (
    FROM first_read l WHERE l.arn = n.key_arn AND l.operation = 'ListGrants' AND l.run_id = n.valid_from
  );
INSERT INTO stage
SELECT o.valid_to, k.account_id, k.region, o.key_arn, NULL, NULL, 'grant_removed', 'low', 'A grant was removed from key ',
  ' for ' || coalesce(o.grantee_service_principal, o.grantee_principal, 'an unnamed grantee') || ': '
    || array_to_string(CAST(CAST(o.operations AS JSON) AS VARCHAR[]), ', ') || '.',
  false, grant_text(o.operations, o.name), NULL, NULL, NULL
FROM internal.key_grant o
JOIN known_key k ON k.key_arn = o.key_arn
WHERE o.valid_to IS NOT NULL AND o.valid_to <> o.valid_from
  AND NOT EXISTS (
    FROM internal.key_grant n WHERE n.key_arn = o.key_arn AND n.grant_id = o.grant_id AND n.valid_from = o.valid_to
      AND n.valid_to IS DISTINCT FROM n.valid_from
  )
  AND NOT EXISTS (FROM key_ends e WHERE e.key_arn = o.key_arn AND e.run_id = o.valid_to)
