-- title: Imported key material that expires
-- topic: posture
-- question: >-
--   Which keys use imported key material, and when does it expire?
-- answer: >-
--   Keys with imported material, the soonest expiry first. After the expiry the key cannot decrypt until the same
--   material is imported again: keep a copy of it.
SELECT material_expires_at, expiration_model, state, account_name, region, alias, dependent_resources, key_arn
FROM keys
WHERE origin = 'EXTERNAL'
ORDER BY material_expires_at NULLS LAST, dependent_resources DESC, key_arn
