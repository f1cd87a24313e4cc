-- title: Recently created keys
-- topic: history
-- question: >-
--   Which customer managed keys were created in the last 30 days?
-- answer: >-
--   Keys by creation date, with the number of their known dependents and their owner tag.
-- parameters:
--   days: {default: "30", description: "days before the run"}
--   tag: {default: "Owner", description: "the tag that names the owner"}
SELECT created_at, account_name, region, alias, key_spec, origin, rotation_status, dependent_resources, tags[$tag] AS owner, key_arn
FROM keys
WHERE manager = 'CUSTOMER' AND age_days <= CAST($days AS INTEGER)
ORDER BY created_at DESC, key_arn
