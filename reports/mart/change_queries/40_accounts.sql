-- Accounts and key stores.
INSERT INTO stage
SELECT n.valid_from, n.account_id, NULL, NULL, NULL, coalesce(n.name, n.account_id), 'account_joined', 'info', 'Account ',
  ' (' || n.account_id || ') joined.', false, NULL, NULL, NULL, NULL
FROM internal.account n
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND n.valid_from > (SELECT min(run_id) FROM internal.run)
  AND n.valid_from > (SELECT min(valid_from) FROM internal.account)
  AND NOT EXISTS (FROM internal.account o WHERE o.account_id = n.account_id AND o.valid_from < n.valid_from);
INSERT INTO stage
SELECT n.valid_from, n.account_id, NULL, NULL, NULL, coalesce(n.name, n.account_id),
  CASE WHEN n.state = 'LEFT' OR n.selection = 'left' THEN 'account_left' ELSE 'account_state' END, 'medium', 'Account ',
  ' (' || n.account_id || ')' || CASE WHEN n.state = 'LEFT' OR n.selection = 'left' THEN ' left the organization.'
    ELSE ' is now in state ' || coalesce(n.state, 'unknown') || ' (was ' || coalesce(o.state, 'unknown') || ').' END,
  false, o.state, n.state, NULL, NULL
FROM internal.account n
JOIN internal.account o ON o.account_id = n.account_id AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
WHERE n.valid_to IS DISTINCT FROM n.valid_from
  AND (o.state IS DISTINCT FROM n.state OR (n.selection = 'left' AND o.selection <> 'left'));
INSERT INTO stage
SELECT n.valid_from, n.account_id, n.region, NULL, NULL, coalesce(n.name, n.store_id), 'key_store_state',
  CASE WHEN n.connection_state = 'CONNECTED' THEN 'info' ELSE severity_of('key-store-connected') END, 'Custom key store ',
  ' is now ' || coalesce(n.connection_state, 'in an unknown state') || ' (was ' || coalesce(o.connection_state, 'unknown') || ')'
    || coalesce(': ' || n.connection_error, '') || '.',
  true, o.connection_state, n.connection_state, NULL, NULL
FROM internal.custom_key_store n
JOIN internal.custom_key_store o ON o.account_id = n.account_id AND o.region = n.region AND o.store_id = n.store_id
  AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND o.connection_state IS DISTINCT FROM n.connection_state
