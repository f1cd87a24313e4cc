-- The grants on a key.
SELECT coalesce(nullif(name, ''), grant_id) AS name, grantee_principal FROM internal.key_grant g
WHERE key_arn = $key_arn AND internal.known(g.valid_from, g.valid_to, $run) AND coalesce(grantee_principal, '') <> ''
