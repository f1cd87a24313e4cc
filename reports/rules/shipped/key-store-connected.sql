-- id: key-store-connected
-- title: Custom key stores with keys are connected
-- severity: high
-- family: material
-- why: >-
--   Keys in a custom key store work only while KMS can reach the CloudHSM cluster or the external key manager behind
--   it. When the connection fails, all of its keys stop working at once, and so does everything encrypted under them.
-- fix: >-
--   Check the error code in the reason: a changed password of the kmsuser, no active HSM, an invalid certificate or an
--   unresponsive proxy. Fix the cause, disconnect the store if its state is FAILED, and connect it again, which takes
--   up to 20 minutes.
-- console: >-
--   In KMS, "AWS CloudHSM key stores" or "External key stores", select the store and choose "Key store actions",
--   "Connect".
-- cli: |-
--   aws kms describe-custom-key-stores --custom-key-store-id STORE_ID
--   aws kms disconnect-custom-key-store --custom-key-store-id STORE_ID
--   aws kms connect-custom-key-store --custom-key-store-id STORE_ID
-- terraform: >-
--   Terraform creates a store (aws_kms_custom_key_store) but does not connect it; use the console or the CLI.
WITH store_keys AS (
  SELECT account_id, region, custom_key_store_id AS store_id, count(*) AS keys, min(key_arn) AS key_arn
  FROM keys
  WHERE custom_key_store_id IS NOT NULL
  GROUP BY account_id, region, custom_key_store_id
), undescribed AS (
  SELECT account_id, region, count(*) AS keys FROM keys WHERE manager IS NULL GROUP BY account_id, region
), store AS (
  SELECT coalesce(s.account_id, h.account_id) AS account_id, coalesce(s.region, h.region) AS region,
    coalesce(s.store_id, h.store_id) AS store_id, coalesce(s.name, s.store_id, h.store_id) AS name, s.connection_state,
    s.connection_error, h.keys, h.key_arn
  FROM custom_key_stores s
  FULL JOIN store_keys h ON h.account_id = s.account_id AND h.region = s.region AND h.store_id = s.store_id
), described AS (
  SELECT s.*, l.keys_unlisted IS TRUE OR u.keys IS NOT NULL AS may_hold_keys,
    'Key store ' || s.name || ' is ' || s.connection_state || coalesce(' (' || s.connection_error || ')', '') || CASE
      WHEN s.keys IS NOT NULL THEN ' and holds ' || internal.counted(s.keys, 'key.', 'keys.')
      WHEN l.keys_unlisted THEN '; the keys in this account and region could not be listed.'
      WHEN u.keys IS NOT NULL THEN '; ' || internal.counted(u.keys, 'key', 'keys')
        || ' in this account and region could not be described and may be in it.'
      ELSE ' and holds no keys.' END AS message
  FROM store s
  LEFT JOIN undescribed u ON u.account_id = s.account_id AND u.region = s.region
  LEFT JOIN internal.key_listings l ON l.account_id = s.account_id AND l.region = s.region
)
SELECT account_id || '/' || region || '/' || store_id AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN connection_state IS NULL THEN unknown('The connection of key store ' || name || ' could not be read.')
    WHEN connection_state = 'CONNECTED' THEN pass(message)
    WHEN keys IS NOT NULL THEN fail(message)
    WHEN NOT may_hold_keys THEN not_applicable(message)
    ELSE unknown(message)
  END AS verdict
FROM described
