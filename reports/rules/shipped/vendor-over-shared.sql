-- id: vendor-over-shared
-- title: Vendors have no more access to keys than their profiles require
-- severity: high
-- family: vendors
-- why: >-
--   The documentation of the vendor defines which operations it needs, on which keys, under which conditions. Any
--   additional access is a risk without benefit: a breach at the vendor extends as far as its access.
-- fix: >-
--   The key policy (or the policy of the vendor role) gives the vendor more access than its profile requires, or gives
--   other principals access to a key that is dedicated to the vendor. Use the statement that the check prints; it
--   contains everything the vendor needs.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; replace
--   the statement of the vendor with the one from the profile.
-- cli: >-
--   kmsledger vendors check --format json; aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it;
--   aws kms put-key-policy --key-id KEY_ARN --policy file://policy.json
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile requires (in the JSON of `kmsledger vendors check`).
SELECT key_arn AS resource_arn, account_id, region, key_arn, excess_severity AS severity,
  CASE
    WHEN excess IS NOT NULL THEN fail(excess)
    WHEN unknown_reason IS NOT NULL THEN unknown(unknown_reason)
    WHEN NOT accessible THEN not_applicable(reason)
    WHEN accessible THEN pass('The vendor has exactly the access that its profile requires (' || profiles || ').')
  END AS verdict
FROM internal.vendor_keys
