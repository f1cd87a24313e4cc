-- id: imported-material-expires
-- title: Imported key material does not expire soon
-- severity: high
-- family: material
-- why: >-
--   When imported material expires, KMS deletes it, and from that moment nothing under the key can be decrypted. AWS
--   does not warn about it: the expiration date was set at import, often years ago by someone who has since left.
-- fix: >-
--   Reimport the same material before the date, without expiration or with a later date: the key stays the same and
--   nothing needs to be re-encrypted. Only the identical material is accepted, so locate it first. If the data is meant
--   to become unreadable on that date, waive the finding until then.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Import key material" and
--   "Key material doesn't expire".
-- cli: |-
--   aws kms get-parameters-for-import --key-id KEY_ARN --wrapping-key-spec RSA_4096 \
--     --wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256
--   aws kms import-key-material --key-id KEY_ARN --import-token fileb://TOKEN \
--     --encrypted-key-material fileb://MATERIAL --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
-- terraform: >-
--   In the aws_kms_external_key resource, remove valid_to or set it to a later time.
-- parameters:
--   days: {default: "30", about: "Number of days before the expiration of imported material at which the key starts to fail."}
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state = 'PendingImport' THEN not_applicable('The key has no material: see imported-material-missing.')
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN expiration_model = 'KEY_MATERIAL_DOES_NOT_EXPIRE' THEN pass('Its imported material does not expire.')
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at IS NOT NULL
      THEN verdict_of(material_expires_at >= r.started_at + to_days(CAST($days AS INTEGER)),
        'Its imported material expires on ' || strftime(material_expires_at, '%Y-%m-%d') || '.')
    ELSE unknown('AWS did not report when its imported material expires.')
  END AS verdict
FROM internal.customer_keys, internal.latest_run r
WHERE origin IS NULL OR origin = 'EXTERNAL'
