-- id: vendor-key-usable
-- title: Vendors can use the keys that they need
-- severity: high
-- family: vendors
-- why: >-
--   A vendor that cannot use the key any more stops working: scans end, protected records stay locked, and some
--   services give data up after days. The cause is mostly here: a disabled key, a changed policy, a deleted role.
-- fix: >-
--   See the reason: enable the key or cancel its deletion, put the vendor's statement back into the key policy, or
--   set the role's policy. The check names a day where something is lost for good. If the vendor is no longer used,
--   take its profile out of the settings.
-- console: >-
--   In KMS, open the key and choose "Enable" or "Cancel key deletion"; or edit the key policy.
-- cli: kmsledger vendors; aws kms cancel-key-deletion --key-id KEY_ARN; aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile asks for (`kmsledger vendors` prints it).
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN NOT expected THEN 'not_applicable'
    WHEN failing IS NULL AND unknown_reason IS NOT NULL THEN 'unknown'
    WHEN failing IS NOT NULL THEN 'fail'
    WHEN unknown_reason IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE WHEN NOT expected THEN reason
    ELSE coalesce(failing, unknown_reason, 'The vendor can use the key (' || profiles || ').') END AS reason
FROM internal.vendor_keys
