-- title: Resources with an unknown key
-- topic: coverage
-- question: >-
--   Which resources use a key that is unknown, not crawled or deleted?
-- answer: >-
--   dangling: the key that the resource names does not exist. not_crawled: the key is in an account or region that
--   is not crawled. unknown: the encryption of the resource could not be read; reason has the cause.
SELECT key_class, resource_type, account_name, region, resource_name, role, raw_value AS declared_key, reason, resource_arn
FROM resource_keys
WHERE key_class IN ('dangling', 'not_crawled', 'unknown')
ORDER BY key_class, resource_type, account_name, resource_name, resource_arn
