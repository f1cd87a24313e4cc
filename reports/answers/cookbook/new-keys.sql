-- title: Keys of the last weeks
-- topic: time
-- question: >-
--   Which customer managed keys were created in the last 30 days?
-- answer: >-
--   Keys by their creation date, with what is already known to use them and whether anybody owns them by tag.
-- parameters:
--   days: {default: "30", about: "created within so many days before the run"}
--   tag: {default: "Owner", about: "the tag that names the owner"}
SELECT created_at, account_name, region, alias, key_spec, origin, rotation_status, dependent_resources, tags[$tag] AS owner, key_arn
FROM keys
WHERE manager = 'CUSTOMER' AND age_days <= CAST($days AS INTEGER)
ORDER BY created_at DESC, key_arn
