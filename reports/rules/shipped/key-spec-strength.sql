-- id: key-spec-strength
-- title: Keys have an allowed key spec
-- severity: low
-- family: material
-- why: >-
--   The key spec is fixed at creation. Some of the specs that KMS offers are weaker than current standards require for
--   new keys (RSA with 2048 bits, HMAC with 224 bits); others serve a single purpose (the Bitcoin curve, SM2 in China)
--   and are unexpected anywhere else.
-- fix: >-
--   Create a key with an allowed spec and migrate to it. Sign and issue MACs with the new key, publish its public key,
--   and verify with both keys until the old signatures expire. Re-encrypt data encrypted with an RSA key. If the
--   protocol of a partner requires the spec, add it to the parameter specs or waive the key.
-- console: >-
--   In KMS, "Customer managed keys", choose "Create key" with another key spec; the spec of an existing key cannot be
--   changed.
-- cli: |-
--   aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P384
-- terraform: >-
--   In the aws_kms_key resource, set customer_master_key_spec to an allowed spec, which creates another key.
-- parameters:
--   specs:
--     default: >-
--       SYMMETRIC_DEFAULT, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_NIST_EDWARDS25519,
--       HMAC_256, HMAC_384, HMAC_512, ML_DSA_44, ML_DSA_65, ML_DSA_87, ML_KEM_768, ML_KEM_1024
--     about: >-
--       Comma-separated list of allowed key specs (KeySpec).
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR key_spec IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN key_spec IN allowed THEN pass('The key has the spec ' || key_spec || '.')
    WHEN key_spec NOT IN allowed THEN fail('The key has the spec ' || key_spec || ', which is not allowed.')
  END AS verdict
FROM (SELECT *, string_split(replace($specs, ' ', ''), ',') AS allowed FROM internal.customer_keys)
