-- title: Resources that changed their key
-- topic: time
-- question: >-
--   Which resources use another key than before?
-- answer: >-
--   One row for each resource that a run found under another key, the latest first.
SELECT "at", account_name, region, subject AS resource, before, after, sentence, resource_arn
FROM changes
WHERE kind = 'rekeyed'
ORDER BY "at" DESC, resource_arn
