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
WITH latest_run AS (
  SELECT arg_max(started_at, run_id) AS started_at FROM runs
), candidate AS (
  SELECT *, latest_run.started_at + to_days(CAST($days AS INTEGER)) AS threshold
  FROM internal.customer_keys, latest_run
  WHERE origin IS NULL OR origin = 'EXTERNAL'
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingImport', 'PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL OR expiration_model IS NULL THEN 'unknown'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at IS NULL THEN 'unknown'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at < threshold THEN 'fail'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at >= threshold THEN 'pass'
    WHEN expiration_model = 'KEY_MATERIAL_DOES_NOT_EXPIRE' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state = 'PendingImport' THEN 'The key has no material: see imported-material-missing.'
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The key is scheduled for deletion.'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN expiration_model = 'KEY_MATERIAL_DOES_NOT_EXPIRE' THEN 'Its imported material does not expire.'
    ELSE coalesce('Its imported material expires on ' || strftime(material_expires_at, '%Y-%m-%d') || '.',
      'AWS did not report when its imported material expires.')
  END || stale_note AS reason
FROM candidate
