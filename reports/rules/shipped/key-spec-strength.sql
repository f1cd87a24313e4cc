-- id: key-spec-strength
-- title: Keys are of an allowed type
-- severity: low
-- family: material
-- why: >-
--   The type of a key is fixed when it is made. Some that KMS offers are weaker than what standards ask of new keys
--   (RSA of 2048 bits, HMAC of 224), others are for one purpose only (the curve of Bitcoin, SM2 in China) and a
--   surprise anywhere else.
-- fix: >-
--   Create a key of an allowed type and move to it: sign and issue MACs with the new key, publish its public key, and
--   verify with both until the old signatures have run out; encrypt data of an RSA key again. If a partner's protocol
--   asks for the type, add it to the parameter specs or waive the key.
-- console: >-
--   In KMS, "Customer managed keys", choose "Create key" with another key spec: that of a key cannot be changed.
-- cli: |-
--   aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P384
-- terraform: >-
--   In the resource aws_kms_key set customer_master_key_spec to an allowed type, which creates another key.
-- parameters:
--   specs:
--     default: >-
--       SYMMETRIC_DEFAULT, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_NIST_EDWARDS25519,
--       HMAC_256, HMAC_384, HMAC_512, ML_DSA_44, ML_DSA_65, ML_DSA_87, ML_KEM_768, ML_KEM_1024
--     about: >-
--       The types of keys (KeySpec) that are allowed, separated by commas.
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR key_spec IS NULL OR state IS NULL THEN 'unknown'
    WHEN NOT list_contains(string_split(replace($specs, ' ', ''), ','), key_spec) THEN 'fail'
    WHEN list_contains(string_split(replace($specs, ' ', ''), ','), key_spec) THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The deletion of the key is scheduled.'
    WHEN manager IS NULL OR key_spec IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN NOT list_contains(string_split(replace($specs, ' ', ''), ','), key_spec)
      THEN 'The key is of type ' || key_spec || ', which is not one of those allowed.'
    ELSE 'The key is of type ' || key_spec || '.'
  END || stale_note AS reason
FROM internal.customer_keys
