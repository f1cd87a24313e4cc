-- title: Data under keys that are not known
-- topic: coverage
-- question: >-
--   Which resources hold data under a key that is not known, not crawled or not there?
-- answer: >-
--   dangling: the key that the resource names does not exist (any more). not_crawled: it is in an account or region
--   outside the ledger. unknown: the resource's encryption could not be read, reason says why.
SELECT key_class, resource_type, account_name, region, resource_name, role, raw_value AS stated_key, reason, resource_arn
FROM resource_keys
WHERE key_class IN ('dangling', 'not_crawled', 'unknown')
ORDER BY key_class, resource_type, account_name, resource_name, resource_arn
