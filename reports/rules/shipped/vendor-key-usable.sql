-- id: vendor-key-usable
-- title: Vendors can use the keys they need
-- severity: high
-- family: vendors
-- why: >-
--   A vendor that can no longer use the key stops working: scans end, protected records stay locked, and some services
--   discard data after days. Usually the cause is on your side: a disabled key, a changed policy, a deleted role.
-- fix: >-
--   Depending on the reason, enable the key or cancel its deletion, restore the statement of the vendor in the key
--   policy, or fix the policy of the role. The check names a date if something will be lost permanently. If the vendor
--   is no longer used, remove its profile from the settings.
-- console: >-
--   In KMS, open the key and choose "Enable" or "Cancel key deletion"; or edit the key policy.
-- cli: kmsledger vendors check; aws kms cancel-key-deletion --key-id KEY_ARN; aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile requires (in the JSON of `kmsledger vendors check`).
SELECT key_arn AS resource_arn, account_id, region, key_arn, severity,
  CASE
    WHEN NOT expected THEN not_applicable(reason)
    WHEN failing IS NOT NULL THEN fail(failing)
    WHEN unknown_reason IS NULL THEN pass('The vendor can use the key (' || profiles || ').')
    ELSE unknown(unknown_reason)
  END AS verdict
FROM internal.vendor_keys
