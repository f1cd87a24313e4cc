-- title: Keys of which something is not known
-- topic: coverage
-- question: >-
--   Of which keys could something not be read, and what?
-- answer: >-
--   Keys with a refused call, and those of regions that were not seen in this run: what is told of them is of the run
--   last_seen_run or older.
SELECT account_name, region, alias, manager, state, denied_actions, policy_known, last_seen_run, key_arn
FROM keys
WHERE freshness <> 'current'
ORDER BY last_seen_run, account_name, region, key_arn
