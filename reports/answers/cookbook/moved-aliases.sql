-- title: Aliases that moved
-- topic: time
-- question: >-
--   Which aliases were pointed at another key, and when?
-- answer: >-
--   One row for each move that a run saw. Who names the alias encrypts with the new key from then on; old data still
--   needs the old one.
SELECT "at", account_name, region, subject AS alias, before, after, sentence
FROM changes
WHERE kind = 'alias_moved' AND before IS NOT NULL
ORDER BY "at" DESC, account_name, region, alias
