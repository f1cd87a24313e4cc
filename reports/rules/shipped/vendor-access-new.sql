-- id: vendor-access-new
-- title: No party outside got access to a key lately
-- severity: low
-- family: vendors
-- why: >-
--   A party outside the organization that can use a key since a few days is worth a look while those who opened it
--   still remember why. What was there when the ledger first saw a key is not new.
-- fix: >-
--   Ask the owner of the key whether the access was wanted. If so, waive the finding with the ticket, or let it pass
--   with time; name the party in the settings under known_external_parties. Otherwise take the statement out of the policy, or
--   revoke the grant.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; take
--   the party out, or leave it.
-- cli: >-
--   kmsledger sql "SELECT * FROM vendors WHERE key_arn = 'KEY_ARN'"; aws kms revoke-grant --key-id KEY_ARN --grant-id
--   GRANT_ID
-- terraform: >-
--   Look in the history of the Terraform configuration for the change of aws_kms_key or aws_kms_grant; one made by
--   hand is put back by terraform apply.
-- parameters:
--   days: {default: "7", about: "for how long an access counts as new (days)"}
WITH outsider AS (
  SELECT coalesce(party, principal_account, principal) AS party, access, key_arn, list_sort(list(DISTINCT source_id)) AS paths,
    min(since_run) AS since_run
  FROM internal.access_paths
  WHERE access IN ('vendor', 'external')
  GROUP BY ALL
), recent AS (
  SELECT v.key_arn, bool_or(v.since_run > k.first_seen_run OR k.created_at IS NOT NULL) AS certain,
    array_to_string(list_sort(list(v.party || ' can use the key since ' || strftime(r.started_at, '%Y-%m-%d')
    || ', through ' || array_to_string(v.paths[1:3], ', ')))[1:3], '; ') AS text
  FROM outsider v
  JOIN keys k ON k.key_arn = v.key_arn
  JOIN runs r ON r.run_id = v.since_run
  CROSS JOIN (SELECT max(started_at) AS started_at FROM runs) n
  WHERE r.started_at >= n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY
    AND (v.since_run > k.first_seen_run OR k.created_at IS NULL
      OR k.created_at >= n.started_at - CAST($days AS INTEGER) * INTERVAL 1 DAY)
  GROUP BY v.key_arn
), not_reported AS (
  SELECT key_arn, min(reason) AS reason
  FROM internal.access_paths
  WHERE access = 'unknown' AND (source_id = '' OR (principal <> '*' AND coalesce(principal_account, split_part(principal,
    ':', 5))
    NOT IN (SELECT account_id FROM accounts)) OR (path = 'policy' AND principal = '*'))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN r.key_arn IS NULL AND (u.key_arn IS NOT NULL OR NOT k.policy_known OR k.grants IS NULL) THEN 'unknown'
    WHEN NOT r.certain THEN 'unknown'
    WHEN r.certain THEN 'fail'
    WHEN r.key_arn IS NULL AND u.key_arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT r.certain THEN r.text || '; whether the key is new is not known.'
    WHEN r.certain THEN r.text || '.'
    WHEN u.key_arn IS NOT NULL OR NOT k.policy_known OR k.grants IS NULL
      THEN 'Could not determine whether somebody outside got access: ' || coalesce(u.reason,
        'policy or grants were not read') || '.'
    ELSE 'No party outside got access within ' || $days || ' days.'
  END AS reason
FROM keys k
LEFT JOIN recent r ON r.key_arn = k.key_arn
LEFT JOIN not_reported u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
