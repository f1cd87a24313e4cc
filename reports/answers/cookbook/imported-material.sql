-- title: Imported material that expires
-- topic: posture
-- question: >-
--   Which keys live on imported material, and when does it expire?
-- answer: >-
--   Keys with imported material, the soonest expiry first. When it expires the key cannot decrypt until the same
--   material is imported again: it has to be kept elsewhere.
SELECT material_expires_at, expiration_model, state, account_name, region, alias, dependent_resources, key_arn
FROM keys
WHERE origin = 'EXTERNAL'
ORDER BY material_expires_at NULLS LAST, dependent_resources DESC, key_arn
