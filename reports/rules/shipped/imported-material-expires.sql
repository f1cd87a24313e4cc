-- id: imported-material-expires
-- title: Imported key material does not expire soon
-- severity: high
-- family: material
-- why: >-
--   When imported material expires, KMS deletes it, and from that minute nothing under the key can be decrypted. That
--   is no accident AWS warns of: a date was set at the import, often years ago by somebody who has left.
-- fix: >-
--   Import the same material again before the date, this time without expiry or with a later one: the key stays as it
--   is and nothing has to be encrypted again. Only the identical material is accepted, so find where it is kept
--   first. If the data is meant to become unreadable on that day, waive the finding until then.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key material and rotations", choose "Import key material" and
--   "Key material doesn't expire".
-- cli: |-
--   aws kms get-parameters-for-import --key-id KEY_ARN --wrapping-key-spec RSA_4096 \
--     --wrapping-algorithm RSA_AES_KEY_WRAP_SHA_256
--   aws kms import-key-material --key-id KEY_ARN --import-token fileb://TOKEN \
--     --encrypted-key-material fileb://MATERIAL --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
-- terraform: >-
--   In the resource aws_kms_external_key remove valid_to, or set it to a later time.
-- parameters:
--   days: {default: "30", about: "Days before the expiry of imported material from which on the key fails."}
WITH now AS (
  SELECT arg_max(started_at, run_id) AS moment FROM runs
), considered AS (
  SELECT *, now.moment + to_days(CAST($days AS INTEGER)) AS soon
  FROM internal.customer_keys, now
  WHERE origin IS NULL OR origin = 'EXTERNAL'
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingImport', 'PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL OR expiration_model IS NULL THEN 'unknown'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at IS NULL THEN 'unknown'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at < soon THEN 'fail'
    WHEN expiration_model = 'KEY_MATERIAL_EXPIRES' AND material_expires_at >= soon THEN 'pass'
    WHEN expiration_model = 'KEY_MATERIAL_DOES_NOT_EXPIRE' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state = 'PendingImport' THEN 'The key has no material, which another rule judges.'
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The deletion of the key is scheduled.'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN expiration_model = 'KEY_MATERIAL_DOES_NOT_EXPIRE' THEN 'Its imported material does not expire.'
    ELSE coalesce('Its imported material expires on ' || strftime(material_expires_at, '%Y-%m-%d') || '.',
      'AWS did not tell when its imported material expires.')
  END || stale_note AS reason
FROM considered
