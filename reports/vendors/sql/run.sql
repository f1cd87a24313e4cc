-- The run with its organization, accounts and known external parties.
SELECT started_at, organization_id, (SELECT list(account_id ORDER BY account_id) FROM accounts) AS accounts,
  (SELECT coalesce(map_from_entries(list((account_id, name))), MAP {}) FROM internal.known_party) AS parties
FROM internal.run WHERE run_id = $run
