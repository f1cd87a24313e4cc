-- title: Keys with unknown properties
-- topic: coverage
-- question: >-
--   Which keys could not be read completely, and what is unknown?
-- answer: >-
--   Keys with a denied or failed call, and keys of regions that this run did not read: their properties are those of
--   run last_seen_run or older.
SELECT account_name, region, alias, manager, state, freshness, denied_actions, policy_known, last_seen_run, key_arn
FROM keys
WHERE freshness <> 'current' OR len(denied_actions) > 0
ORDER BY last_seen_run, account_name, region, key_arn
