-- id: vendor-access-new
-- title: No external party recently gained access to a key
-- severity: low
-- family: vendors
-- why: >-
--   Access of an external party that was added within the last few days should be reviewed while those who added it
--   remember the reason. Access that existed when the ledger first recorded a key is not new.
-- fix: >-
--   Ask the owner of the key whether the access is intended. If it is, waive the finding with the ticket, or let it
--   expire; add the party to known_external_parties in the settings. Otherwise remove the statement from the policy, or
--   revoke the grant.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; remove
--   the party if its access is not intended.
-- cli: >-
--   kmsledger sql "SELECT * FROM vendors WHERE key_arn = 'KEY_ARN'"; aws kms revoke-grant --key-id KEY_ARN --grant-id
--   GRANT_ID
-- terraform: >-
--   Check the history of the Terraform configuration for the change of aws_kms_key or aws_kms_grant; terraform apply
--   reverts a manual change.
-- parameters:
--   days: {default: "7", about: "Number of days for which access counts as new."}
WITH external_party AS (
  SELECT coalesce(party, principal_account, principal) AS party, access, key_arn, list_sort(list(DISTINCT source_id)) AS paths,
    min(since_run) AS since_run
  FROM internal.access_paths
  WHERE access IN ('vendor', 'external') AND internal.from_outside(access)
  GROUP BY ALL
), recent AS (
  SELECT v.key_arn, bool_or(v.since_run > k.first_seen_run OR k.created_at IS NOT NULL) AS is_new,
    array_to_string(list_sort(list(v.party || ' has had access to the key since ' || strftime(r.started_at, '%Y-%m-%d')
    || ', through ' || array_to_string(v.paths[1:3], ', ')))[1:3], '; ') AS text
  FROM external_party v
  JOIN keys k ON k.key_arn = v.key_arn
  JOIN runs r ON r.run_id = v.since_run
  CROSS JOIN internal.latest_run n
  WHERE r.started_at >= n.started_at - to_days(CAST($days AS INTEGER))
    AND (v.since_run > k.first_seen_run OR k.created_at IS NULL
      OR k.created_at >= n.started_at - to_days(CAST($days AS INTEGER)))
  GROUP BY v.key_arn
), unevaluated_key AS (
  SELECT key_arn, min(reason) AS reason
  FROM internal.access_paths
  WHERE access = 'unknown' AND (source_id = '' OR (path = 'policy' AND principal = '*') OR (principal <> '*'
    AND coalesce(principal_account, split_part(principal, ':', 5)) NOT IN (SELECT account_id FROM accounts)))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN NOT r.is_new THEN unknown(r.text || '; could not determine whether the key is new.')
    WHEN r.is_new THEN fail(r.text || '.')
    WHEN u.key_arn IS NOT NULL OR NOT k.policy_known OR k.grants IS NULL
      THEN unknown('Could not determine whether an external party gained access: '
        || coalesce(u.reason, 'the policy or the grants were not read') || '.')
    WHEN r.key_arn IS NULL THEN pass('No external party gained access within the last ' || $days || ' days.')
  END AS verdict
FROM keys k
LEFT JOIN recent r ON r.key_arn = k.key_arn
LEFT JOIN unevaluated_key u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
