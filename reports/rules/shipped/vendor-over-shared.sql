-- id: vendor-over-shared
-- title: Vendors have no more access to keys than their profiles ask for
-- severity: high
-- family: vendors
-- why: >-
--   The vendor's own document says which operations it needs, on which keys, under which conditions. Whatever it has
--   beyond that is risk without use: a breach at the vendor reaches as far as the access does.
-- fix: >-
--   The key policy (or the policy of the vendor's role) gives the vendor more than its profile asks for, or gives
--   others access to a key that is meant for the vendor alone. Set the statement that the check prints; it contains
--   all that the vendor needs.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the vendor's statement by that of the profile.
-- cli: >-
--   kmsledger vendors; aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms
--   put-key-policy --key-id KEY_ARN --policy file://policy.json
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile asks for (`kmsledger vendors` prints it).
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN excess IS NOT NULL THEN 'fail'
    WHEN unknown_reason IS NOT NULL THEN 'unknown'
    WHEN NOT accessible THEN 'not_applicable'
    WHEN accessible THEN 'pass'
    ELSE 'unknown'
  END AS status,
  coalesce(excess, unknown_reason, CASE WHEN NOT accessible THEN reason END,
    'The vendor has what the profile asks for and no more (' || profiles || ').') AS reason
FROM internal.vendor_keys
