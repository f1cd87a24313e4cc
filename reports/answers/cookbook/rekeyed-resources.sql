-- title: Resources that changed their key
-- topic: time
-- question: >-
--   Which resources were found under another key in the last 30 days?
-- answer: >-
--   One row for each resource that a run found under another key, the latest first.
-- parameters:
--   days: {default: "30", about: "found within so many days before the run"}
SELECT occurred_at, account_name, region, subject AS resource, before, after, message, resource_arn
FROM changes
WHERE event_type = 'rekeyed' AND occurred_at >= (SELECT max(started_at) FROM runs) - CAST($days AS INTEGER) * INTERVAL 1 DAY
ORDER BY occurred_at DESC, resource_arn
