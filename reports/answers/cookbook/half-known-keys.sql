-- title: Keys of which something is not known
-- topic: coverage
-- question: >-
--   Of which keys could something not be read, and what?
-- answer: >-
--   Keys with a refused call, and those of regions that were not seen in this run: what is told of them is of the run
--   last_confirmed_run or older.
SELECT account_name, region, alias, manager, state, unknown AS refused, policy_known, last_confirmed_run, key_arn
FROM keys
WHERE known <> 'yes'
ORDER BY last_confirmed_run, account_name, region, key_arn
