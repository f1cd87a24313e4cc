-- title: Aliases that moved
-- topic: time
-- question: >-
--   Which aliases were pointed at another key, and when?
-- answer: >-
--   One row for each move that a run saw. Who names the alias encrypts with the new key from then on; old data still
--   needs the old one.
SELECT occurred_at, account_name, region, subject AS alias, before, after, message
FROM changes
WHERE event_type = 'alias_moved' AND before IS NOT NULL
ORDER BY occurred_at DESC, account_name, region, alias
