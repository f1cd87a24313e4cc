-- title: Aliases that moved
-- topic: history
-- question: >-
--   Which aliases were pointed at another key, and when?
-- answer: >-
--   One row per move that a run saw. Clients that use the alias encrypt with the new key from then on; existing data
--   still needs the old key.
SELECT occurred_at, account_name, region, subject AS alias, before, after, message
FROM changes
WHERE event_type = 'alias_moved' AND before IS NOT NULL
ORDER BY occurred_at DESC, account_name, region, alias
